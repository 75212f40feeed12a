// Command demo shows a publish from beginning to end, in the sandbox and with nothing but Go:
//
//	go run . sandbox -- go run ./testdata/demo
//
// It makes an image of testdata/connectors/source-hello, publishes it, shows what Airbyte then holds, and publishes it
// again. It fails when a step does, or when the second publish finds anything to do.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const connector = "source-hello"

// demo is one showing: where the sandbox is, and what it publishes.
type demo struct {
	out                   io.Writer
	binary, definitions   string
	folder, layout, image string
}

func run(ctx context.Context, getenv func(string) string, out io.Writer) (err error) {
	registry := getenv("SANDBOX_REGISTRY")
	d := demo{out: out, binary: getenv("SANDBOX_BINARY"), definitions: getenv("SANDBOX_DEFINITIONS"),
		image: registry + "/sandbox/" + connector}
	if registry == "" || d.binary == "" || d.definitions == "" {
		return errors.New("there is no sandbox around: run it as go run . sandbox -- go run ./testdata/demo")
	}
	if d.folder, err = folder(ctx); err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "airbyte-publish-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	d.layout = filepath.Join(temp, connector)

	d.heading("Make an image of testdata/connectors/%s, with Go alone", connector)
	if err := d.build(ctx); err != nil {
		return err
	}
	d.heading("Publish it")
	if err := d.publish(ctx, "1 created"); err != nil {
		return err
	}
	d.heading("What Airbyte has now")
	if err := d.show(ctx); err != nil {
		return err
	}
	d.heading("Publish it again")
	if err := d.publish(ctx, "1 unchanged"); err != nil {
		return err
	}
	d.heading("Done: published once, and unchanged the second time")
	return nil
}

// folder is the connector's, as a user in this folder would write it.
func folder(ctx context.Context) (string, error) {
	dir, err := connectors.Dir(ctx, connector)
	if err != nil {
		return "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if relative, err := filepath.Rel(here, dir); err == nil {
		return filepath.ToSlash(relative), nil
	}
	return dir, nil
}

func (d *demo) heading(format string, args ...any) {
	fmt.Fprintf(d.out, "\n== "+format+"\n\n", args...)
}

// build makes an image layout. The labels name the place in the sandbox that the image goes to.
func (d *demo) build(ctx context.Context) error {
	img, err := connectors.Image(ctx, connector, connectors.As(d.image, "0.1.0"))
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%s\n", digest)
	return connectors.WriteLayout(img, d.layout)
}

// publish runs the tool on the connector as a user would, and wants it to end with the outcome.
func (d *demo) publish(ctx context.Context, outcome string) error {
	inputs := []string{"AIRBYTE_PUBLISH_IMAGE=" + d.image, "AIRBYTE_PUBLISH_SOURCE=oci:" + d.layout}
	for _, input := range inputs {
		fmt.Fprintf(d.out, "%s \\\n", input)
	}
	fmt.Fprintf(d.out, "airbyte-publish publish %s\n\n", d.folder)
	var printed bytes.Buffer
	both := io.MultiWriter(d.out, &printed)
	cmd := exec.CommandContext(ctx, d.binary, "publish", d.folder)
	cmd.Env = append(cmd.Environ(), inputs...)
	cmd.Stdout, cmd.Stderr = both, both
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("airbyte-publish publish: %w", err)
	}
	if !bytes.HasSuffix(bytes.TrimSpace(printed.Bytes()), []byte("\n"+outcome)) {
		return fmt.Errorf("airbyte-publish publish did not end with %q", outcome)
	}
	return nil
}

// show prints the sandbox's own page of definitions.
func (d *demo) show(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.definitions, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var page bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(d.out, &page), io.LimitReader(response.Body, 1<<20)); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !bytes.Contains(page.Bytes(), []byte(d.image)) {
		return fmt.Errorf("the definition of %s is not there: %s", d.image, response.Status)
	}
	return nil
}
