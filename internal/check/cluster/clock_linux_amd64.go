package cluster

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A program asks the kernel's vDSO, which is mapped into each process, what time it is.
// That of a process of ours can be changed, and has to be, since a Go program can't be
// given another clock from outside: it uses no C library, and there is no namespace of
// the wall clock. The program itself stays as it is.
//
// The function is led to this code, which lies in zeros behind the vDSO, and adds seconds
// to the wall clock. The monotonic clock goes on as it was.
var (
	stub = []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 10, // jne to the end
		0x48, 0x8b, 0x0d, 6, 0, 0, 0, // mov rcx, [the seconds]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
		0, 0, // the seconds follow
	}
	jump = byte(0xe9) // and how far, in 4 bytes
)

const (
	jumpLen = 5
	roomLen = 64 // of the stub and the seconds
)

// vdso is that of a process.
type vdso struct {
	pid    int
	mem    *os.File
	start  int64 // of the mapping
	image  []byte
	entry  int // of the function, in image
	inside int // of the stub
}

func openVDSO(pid int) (*vdso, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	v := &vdso{pid: pid}
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, "[vdso]") {
			continue
		}
		from, rest, _ := strings.Cut(line, "-")
		to, _, _ := strings.Cut(rest, " ")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		v.start, v.image = start, make([]byte, end-start)
	}
	if v.image == nil {
		return nil, errors.New("the process has no vDSO")
	}
	if v.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if err := v.read(); err != nil {
		v.mem.Close()
		return nil, err
	}
	return v, nil
}

func (v *vdso) read() error {
	if _, err := v.mem.ReadAt(v.image, v.start); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(v.image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			v.entry = int(s.Value)
		}
	}
	v.inside = len(v.image) - roomLen
	if v.entry <= 0 || v.entry+jumpLen > v.inside {
		return errors.New("the vDSO has no clock_gettime")
	}
	if !v.patched() && len(bytes.Trim(v.image[v.inside:], "\x00")) > 0 {
		return errors.New("the vDSO has no room behind it")
	}
	return nil
}

func (v *vdso) patched() bool { return bytes.HasPrefix(v.image[v.inside:], stub) }

func (v *vdso) write(b []byte, at int) error {
	_, err := v.mem.WriteAt(b, v.start+int64(at))
	return err
}

// set has the wall clock be so much ahead. The process is stopped.
func (v *vdso) set(ahead time.Duration) error {
	seconds := binary.LittleEndian.AppendUint64(nil, uint64(int64(ahead/time.Second)))
	if err := v.write(seconds, v.inside+len(stub)); err != nil || v.patched() {
		return err
	}
	if err := v.write(stub, v.inside); err != nil {
		return err
	}
	to := binary.LittleEndian.AppendUint32([]byte{jump}, uint32(v.inside-v.entry-jumpLen))
	return v.write(to, v.entry)
}

// still tells whether all threads have stopped, none in the middle of what the jump replaces.
func (v *vdso) still() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", v.pid))
	for _, t := range threads {
		text, err := os.ReadFile(t)
		words := strings.Fields(string(text)) // the last is where it is; "running" if it has not stopped
		if err != nil || len(words) == 0 {
			return false
		}
		at, err := strconv.ParseInt(words[len(words)-1], 0, 64)
		if err != nil || at > v.start+int64(v.entry) && at < v.start+int64(v.entry+jumpLen) {
			return false
		}
	}
	return len(threads) > 0
}

// CanStep reports why the clocks of our processes can't be stepped here, or nil.
func CanStep() error {
	v, err := openVDSO(os.Getpid())
	if err != nil {
		return err
	}
	defer v.mem.Close()
	return v.write(v.image[v.inside:], v.inside) // as it is
}

// Step has the process's wall clock be so much ahead, or behind, of what it is to others.
// The one that is started next has the right time.
func (p *Process) Step(ahead time.Duration) error {
	v, err := openVDSO(p.PID())
	if err != nil {
		return fmt.Errorf("clock of %s: %w", p.Name, err)
	}
	defer v.mem.Close()
	for range 1000 {
		if err := p.Pause(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // for the kernel to stop the threads
		still := v.still()
		if still {
			err = v.set(ahead)
		}
		if err := errors.Join(err, p.Resume()); err != nil {
			return fmt.Errorf("step the clock of %s: %w", p.Name, err)
		}
		if still {
			return nil
		}
	}
	return fmt.Errorf("step the clock of %s: it can't be stopped", p.Name)
}
