// Package sandbox is a registry and an Airbyte on loopback: an embedded, strict OCI distribution registry, and a
// stand-in for Airbyte's API with the habits of its real servers, switchable by version. They are what
// `airbyte-publish sandbox` starts, and what the tests of the other packages publish into. It is no Airbyte: it syncs
// nothing, and it keeps nothing after it is closed.
package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
)

// Options say which sandbox to start.
type Options struct {
	// AirbyteVersion is the release that the stand-in behaves as; empty means NewestAirbyte.
	AirbyteVersion string
	// AllowUnrunnable is that of AirbyteOptions.
	AllowUnrunnable bool
	// Dir is the folder to keep blobs and unpacked images below; empty means the system's folder for temporary files.
	Dir string
	// Log gets what Airbyte's server log would say; nil discards it.
	Log func(format string, args ...any)
}

// Sandbox is a registry and an Airbyte stand-in that serve on loopback, with secrets of their own.
type Sandbox struct {
	Airbyte  *Airbyte
	Registry *Registry

	airbyteURL, registryHost   string
	clientID, clientSecret     string
	pusherName, pusherPassword string
	servers                    []*http.Server
}

// Start opens both on free ports of 127.0.0.1: the stand-in asks for client credentials, the registry for basic
// authentication. Close ends them; so does the end of ctx, but what is on disk goes with Close only.
//
// The program's main function, and the TestMain of tests, must call build.SpecMain first: spec is really run.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	if o.AirbyteVersion == "" {
		o.AirbyteVersion = NewestAirbyte
	}
	if err := CheckAirbyteVersion(o.AirbyteVersion); err != nil {
		return nil, err
	}
	s := &Sandbox{clientID: "sandbox", clientSecret: rand.Text(), pusherName: "publisher", pusherPassword: rand.Text()}
	node := RegistryUser{Name: "airbyte", Password: rand.Text(), ReadOnly: true}
	registryAt, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	airbyteAt, err := listen(ctx)
	if err != nil {
		_ = registryAt.Close() // Nothing was served.
		return nil, err
	}
	s.registryHost, s.airbyteURL = registryAt.Addr().String(), "http://"+airbyteAt.Addr().String()
	s.Registry = NewRegistry(RegistryOptions{Dir: o.Dir, Auth: RegistryAuth{Mode: RegistryBasic,
		Users: []RegistryUser{{Name: s.pusherName, Password: s.pusherPassword}, node}}})
	s.Airbyte = NewAirbyte(AirbyteOptions{
		Version:         o.AirbyteVersion,
		Auth:            Auth{Mode: ClientCredentials, ClientID: s.clientID, ClientSecret: s.clientSecret},
		AllowUnrunnable: o.AllowUnrunnable,
		Log:             o.Log,
		RunSpec: PullAndRun(PullOptions{Registry: s.registryHost, Username: node.Name, Password: node.Password,
			Spec: build.SpecOptions{TempDir: o.Dir}}),
	})
	s.serve(ctx, registryAt, s.Registry)
	s.serve(ctx, airbyteAt, s.Airbyte)
	return s, nil
}

func listen(ctx context.Context) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	return l, nil
}

func (s *Sandbox) serve(ctx context.Context, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	s.servers = append(s.servers, server)
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }() // It ends with Close.
}

// Env is the environment, as NAME=VALUE, by which airbyte-publish uses the sandbox. It holds secrets, which are good
// for nothing else.
func (s *Sandbox) Env() []string {
	return []string{
		"AIRBYTE_PUBLISH_AIRBYTE_URL=" + s.airbyteURL,
		"AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID=" + s.clientID,
		"AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET=" + s.clientSecret,
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME=" + s.pusherName,
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD=" + s.pusherPassword,
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP=true",
		"AIRBYTE_PUBLISH_IMAGE=" + s.registryHost + "/sandbox/{connector}",
		"SANDBOX_REGISTRY=" + s.registryHost,
		"SANDBOX_DEFINITIONS=" + s.airbyteURL + showPath,
	}
}

// Show writes a listing of the definitions that the stand-in holds, for people to read.
func (s *Sandbox) Show(w io.Writer) error { return s.Airbyte.Show(w) }

// Close stops both and removes what they keep.
func (s *Sandbox) Close() error {
	s.Airbyte.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, server := range s.servers {
		if server.Shutdown(ctx) != nil {
			errs = append(errs, server.Close())
		}
	}
	return errors.Join(append(errs, s.Registry.Close())...)
}
