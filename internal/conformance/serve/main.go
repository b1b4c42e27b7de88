// Command serve plays the cases of internal/conformance to clients in any language. It prints
// where it listens, and ends with its standard input or a signal.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"eventstream/internal/conformance"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on, host:port")
	flag.Parse()
	log.SetFlags(0)
	cases, err := conformance.New()
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", ln.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	s := &http.Server{Handler: cases, ConnContext: conformance.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(s.Serve(ln))
}
