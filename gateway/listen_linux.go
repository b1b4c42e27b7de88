package gateway

import "syscall"

// smallBuffers sets the buffers of a listener's sockets.
func smallBuffers(_, _ string, rc syscall.RawConn) error {
	var err error
	ctrlErr := rc.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10)
		if err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		}
	})
	if ctrlErr != nil {
		return ctrlErr
	}
	return err
}
