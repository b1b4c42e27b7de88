//go:build !linux

package gateway

func beSink() {}
