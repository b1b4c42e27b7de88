// Eventstream delivers the events of a Kafka topic that match each client's
// filters, over WebSockets, as they happen.
package main

import (
	"os"

	"eventstream/cmd"
)

// version is set when a release is built.
var version = "dev"

func main() { os.Exit(cmd.Execute(version, os.Args[1:])) }
