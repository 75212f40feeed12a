package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	buildkit "github.com/moby/buildkit/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// buildkits are the BuildKit daemons that were named. Those that can't be reached are left out while there is another.
func (d *dialing) buildkits(ctx context.Context, log connector.Log) ([]*engine, error) {
	addresses := d.options.BuildkitHosts
	if len(addresses) == 0 {
		address := d.options.Getenv("BUILDKIT_HOST")
		if address == "" {
			return nil, absent("neither buildkit-host nor BUILDKIT_HOST names a BuildKit")
		}
		// The images of BuildKit itself come with the variable, whether a daemon runs in them or not.
		if path, ok := strings.CutPrefix(address, "unix://"); ok && d.options.Builder != builderBuildkit {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("BUILDKIT_HOST is %s, where nothing is", fault.Bounded(address))
			}
		}
		addresses = []string{address}
	}
	found := make([]*engine, len(addresses))
	errs := make([]error, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() { found[i], errs[i] = d.buildkit(ctx, address) })
	}
	all.Wait()
	return usable(addresses, found, errs, log)
}

// usable are the engines that were found. What was left out, and what is not encrypted, is told.
func usable(addresses []string, found []*engine, errs []error, log connector.Log) ([]*engine, error) {
	var engines []*engine
	var causes []string
	for i, address := range addresses {
		if errs[i] != nil {
			causes = append(causes, withoutQuery(address)+": "+errs[i].Error())
			continue
		}
		engines = append(engines, found[i])
		if exposed(address) {
			log.Finding(connector.Finding{Code: fault.PlainBuilder, Severity: connector.Warning,
				Message: fmt.Sprintf("The connection to BuildKit at %s is not encrypted: files, build secrets and registry credentials "+
					"go over it.", withoutQuery(address)),
				Remedy: "Give BuildKit certificates and name ours: " + withoutQuery(address) + "?cacert=FILE&cert=FILE&key=FILE."})
		}
	}
	if len(engines) == 0 {
		return nil, unreachable("BuildKit", fmt.Errorf("%s", strings.Join(causes, "; ")))
	}
	for _, cause := range causes {
		log.Finding(connector.Finding{Code: fault.EngineUnreachable, Severity: connector.Warning,
			Message: "BuildKit can't be reached and is left out: " + fault.Bounded(cause) + ".", Remedy: "Start it, or correct buildkit-host."})
	}
	return engines, nil
}

// buildkit connects to the daemon at one address.
func (d *dialing) buildkit(ctx context.Context, address string) (*engine, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	switch u.Scheme {
	case "unix":
		return d.remote(ctx, "unix://"+u.Host+u.Path, tlsFiles{})
	case "tcp":
		files, err := parseTLSFiles(u.Query())
		if err != nil {
			return nil, err
		}
		return d.remote(ctx, "tcp://"+u.Host, files)
	case "docker-container":
		endpoint, err := findDocker(d.options.Getenv)
		if err != nil {
			return nil, err
		}
		return d.container(ctx, endpoint, u.Host)
	default:
		return nil, errors.New("its scheme is none of unix, tcp and docker-container")
	}
}

// tlsFiles are the files and the name that TLS needs; all empty means that there is no TLS.
type tlsFiles struct{ ca, cert, key, serverName string }

func parseTLSFiles(query url.Values) (tlsFiles, error) {
	var files tlsFiles
	for name, into := range map[string]*string{"cacert": &files.ca, "cert": &files.cert, "key": &files.key, "servername": &files.serverName} {
		*into = query.Get(name)
		query.Del(name)
	}
	for name := range query {
		return files, fmt.Errorf("its parameter %q is none of cacert, cert, key and servername", fault.Bounded(name))
	}
	return files, nil
}

// remote connects to a daemon's socket or port.
func (d *dialing) remote(ctx context.Context, address string, files tlsFiles) (*engine, error) {
	var options []buildkit.ClientOpt
	switch {
	case files.ca != "":
		options = append(options, buildkit.WithServerConfig(files.serverName, files.ca))
	case files != tlsFiles{}:
		options = append(options, buildkit.WithServerConfigSystem(files.serverName))
	}
	if files.cert != "" || files.key != "" {
		options = append(options, buildkit.WithCredentials(files.cert, files.key))
	}
	options = append(options, buildkit.WithContextDialer(dialAddress))
	c, err := buildkit.New(ctx, address, options...)
	if err != nil {
		return nil, err
	}
	e, err := open(ctx, d.timeout, c)
	if err != nil && files != (tlsFiles{}) && files.cert == "" && hungUp(err) {
		return nil, fmt.Errorf("%w (no cert and key are given, which it may want)", err)
	}
	if err != nil {
		return nil, err
	}
	e.name = e.caps.versioned("buildkitd") + " at " + address
	return e, nil
}

// hungUp tells that the daemon ended the connection. In TLS 1.3 it judges our certificate when the connection is made
// already for us, and its word on that can get lost.
func hungUp(err error) bool {
	return slices.ContainsFunc([]string{"certificate required", "broken pipe", "connection reset", "EOF"},
		func(sign string) bool { return strings.Contains(err.Error(), sign) })
}

// dialAddress connects to unix://PATH, or to HOST:PORT, which is what the client makes of tcp://HOST:PORT. A machine that
// has gone without a word is found out within half a minute.
func dialAddress(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return dialer.DialContext(ctx, "unix", path)
	}
	return dialer.DialContext(ctx, "tcp", strings.TrimPrefix(address, "tcp://"))
}

// exposed tells that an address leads to another machine without TLS.
func exposed(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "tcp" || len(u.Query()) > 0 {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// withoutQuery leaves out the names of files.
func withoutQuery(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return fault.Bounded(address)
}
