// Command misbehave is a connector whose spec goes wrong in the way that the environment variable MISBEHAVE names.
// With none it is a good source, so that an image can be broken in other ways around it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const spec = `{"type":"SPEC","spec":{"protocol_version":"0.3.2","documentationUrl":"https://example.com/misbehave",` +
	`"connectionSpecification":{"$schema":"http://json-schema.org/draft-07/schema#","title":"Misbehave","type":"object",` +
	`"additionalProperties":true,"properties":{}}}}`

func main() {
	if len(os.Args) != 2 || os.Args[1] != "spec" {
		fmt.Fprintln(os.Stderr, "misbehave: it knows only spec")
		os.Exit(1)
	}
	os.Exit(run(os.Getenv, os.Environ(), os.Stdout, os.Stderr))
}

// run does what the mode says and returns the exit code.
func run(getenv func(string) string, environ []string, stdout, stderr io.Writer) int {
	switch mode := getenv("MISBEHAVE"); mode {
	case "":
		log(stdout, "all is well")
		fmt.Fprintln(stdout, spec)
		return 0
	case "crash":
		fmt.Fprintln(stderr, "Traceback: the module that this connector needs is not installed")
		return 3
	case "hang":
		return hang(stdout)
	case "no-spec":
		log(stdout, "nothing to tell")
		return 0
	case "error-trace":
		fmt.Fprintf(stdout, `{"type":"TRACE","trace":{"type":"ERROR","emitted_at":%d,"error":{"message":"the licence has expired",`+
			`"internal_message":"LicenceError: expired","failure_type":"config_error"}}}`+"\n", time.Now().UnixMilli())
		return 1
	case "huge-output":
		return flood(stdout)
	case "needs-network":
		return talk(stdout, stderr)
	case "echo-environment":
		for _, variable := range environ {
			log(stdout, variable)
		}
		fmt.Fprintln(stdout, spec)
		return 0
	case "print":
		fmt.Fprint(stdout, getenv("MISBEHAVE_STDOUT"))
		fmt.Fprint(stderr, getenv("MISBEHAVE_STDERR"))
		code, _ := strconv.Atoi(getenv("MISBEHAVE_EXIT"))
		return code
	default:
		fmt.Fprintf(stderr, "misbehave: no mode %q\n", mode)
		return 1
	}
}

// hang goes on whatever asks it to end; whoever waits for it must end it by force.
func hang(w io.Writer) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	log(w, "waiting for something that never comes")
	for s := range signals {
		log(w, "not listening to "+s.String())
	}
	return 0
}

func log(w io.Writer, text string) {
	message, _ := json.Marshal(map[string]any{"type": "LOG", "log": map[string]string{"level": "INFO", "message": text}})
	fmt.Fprintf(w, "%s\n", message)
}

// flood prints 64 MiB of lines before its specification, more than anyone should keep.
func flood(w io.Writer) int {
	line := strings.Repeat("x", 1023) + "\n"
	out := bufio.NewWriterSize(w, 1<<20)
	for range 64 << 10 {
		if _, err := out.WriteString(line); err != nil {
			return 1
		}
	}
	fmt.Fprintln(out, spec)
	if out.Flush() != nil {
		return 1
	}
	return 0
}

// talk gives its specification only where a network is, if only the loopback one: in a network namespace of its own
// nothing is up.
func talk(stdout, stderr io.Writer) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		defer listener.Close()
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", listener.Addr().String(), 2*time.Second); err == nil {
			conn.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "misbehave: no network:", err)
		return 1
	}
	fmt.Fprintln(stdout, spec)
	return 0
}
