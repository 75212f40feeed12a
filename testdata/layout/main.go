// Command layout writes an image of testdata/connectors/source-hello as an OCI layout, made with Go alone, for workflows
// that try the action:
//
//	go run ./testdata/layout REPOSITORY TAG DIR
//
// The image says under which repository and tag it is to be published.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: go run ./testdata/layout REPOSITORY TAG DIR")
		os.Exit(2)
	}
	img, err := connectors.Image(context.Background(), "source-hello", connectors.As(os.Args[1], os.Args[2]))
	if err == nil {
		err = connectors.WriteLayout(img, os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
