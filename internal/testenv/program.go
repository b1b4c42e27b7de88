package testenv

import (
	"os/exec"
	"testing"
)

// Program runs a server's program until the end of the test. What it printed is
// shown if the test fails.
func Program(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil { // not on everybody's PATH
			missing(t, "%s is not installed", name)
		}
	}
	p := process{t: t, dir: t.TempDir()}
	if err := p.launch(path, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, p.logged())
		}
	})
}
