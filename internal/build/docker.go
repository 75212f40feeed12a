package build

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/connhelper"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// dockerEndpoint says where a Docker engine listens and how to trust it.
type dockerEndpoint struct {
	host string
	// certificates is a folder with ca.pem, cert.pem and key.pem, or empty.
	certificates string
	skipVerify   bool
}

// findDocker finds the engine that the docker command would use: DOCKER_HOST, else the context of DOCKER_CONTEXT or of
// the docker configuration, else the system's default socket.
func findDocker(getenv func(string) string) (dockerEndpoint, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		e := dockerEndpoint{host: host, certificates: getenv("DOCKER_CERT_PATH"), skipVerify: getenv("DOCKER_TLS_VERIFY") == ""}
		if e.certificates == "" && !e.skipVerify {
			e.certificates = dockerConfig(getenv)
		}
		return e, nil
	}
	name, err := dockerContextName(getenv)
	if err != nil {
		return dockerEndpoint{}, err
	}
	if name == "" {
		return dockerEndpoint{host: client.DefaultDockerHost}, nil
	}
	return dockerOfContext(dockerConfig(getenv), name)
}

// dockerConfig is the folder of the docker configuration.
func dockerConfig(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), ".docker")
}

// dockerContextName is the current docker context, or empty when that is the default one.
func dockerContextName(getenv func(string) string) (string, error) {
	if getenv("DOCKER_HOST") != "" {
		return "", nil
	}
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		var file struct{ CurrentContext string }
		if err := readJSON(filepath.Join(dockerConfig(getenv), "config.json"), &file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		name = file.CurrentContext
	}
	if name == "default" {
		return "", nil
	}
	return name, nil
}

// dockerOfContext reads a docker context. Its folders are named by the SHA-256 of the context's name.
func dockerOfContext(config, name string) (dockerEndpoint, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints struct {
			Docker struct {
				Host          string
				SkipTLSVerify bool
			} `json:"docker"`
		}
	}
	if err := readJSON(filepath.Join(config, "contexts", "meta", id, "meta.json"), &meta); err != nil {
		return dockerEndpoint{}, fmt.Errorf("the docker context %q can't be read: %w", name, err)
	}
	e := dockerEndpoint{host: meta.Endpoints.Docker.Host, skipVerify: meta.Endpoints.Docker.SkipTLSVerify}
	if e.host == "" {
		return dockerEndpoint{}, fmt.Errorf("the docker context %q names no engine", name)
	}
	if certificates := filepath.Join(config, "contexts", "tls", id, "docker"); isFile(certificates, "ca.pem") || isFile(certificates, "cert.pem") {
		e.certificates = certificates
	}
	return e, nil
}

func readJSON(file string, into any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// connect makes a client of the engine, without contacting it.
func (e dockerEndpoint) connect(getenv func(string) string, userAgent string) (*client.Client, error) {
	options := []client.Opt{client.WithAPIVersion(getenv("DOCKER_API_VERSION"))}
	if userAgent != "" {
		options = append(options, client.WithUserAgent(userAgent))
	}
	if e.certificates != "" {
		config, err := e.tls()
		if err != nil {
			return nil, err
		}
		options = append(options, client.WithHTTPClient(&http.Client{
			Transport: &http.Transport{TLSClientConfig: config}, CheckRedirect: client.CheckRedirect}))
	}
	// An ssh:// address is one where the ssh command runs docker, whose input and output are the connection.
	if helper, err := connhelper.GetConnectionHelper(e.host); err != nil {
		return nil, err
	} else if helper != nil {
		return client.New(append(options, client.WithHost(helper.Host), client.WithDialContext(helper.Dialer))...)
	}
	return client.New(append(options, client.WithHost(e.host))...)
}

func (e dockerEndpoint) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.skipVerify}
	if isFile(e.certificates, "ca.pem") {
		pem, err := os.ReadFile(filepath.Join(e.certificates, "ca.pem"))
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", filepath.Join(e.certificates, "ca.pem"))
		}
	}
	if isFile(e.certificates, "cert.pem") {
		pair, err := tls.LoadX509KeyPair(filepath.Join(e.certificates, "cert.pem"), filepath.Join(e.certificates, "key.pem"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dockerDaemon takes an image out of a Docker engine's store, by way of a temporary file. An engine keeps layers
// uncompressed unless it has containerd's image store, so they are compressed anew and the digest is ours.
func (b *Builder) dockerDaemon(ctx context.Context, ref string) (image.Artifact, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return image.Artifact{}, err
	}
	// Without a tag the engine would save every tag of the repository.
	if tag, ok := parsed.(name.Tag); ok && !strings.HasSuffix(ref, ":"+tag.TagStr()) {
		ref += ":" + tag.TagStr()
	}
	e, err := findDocker(b.options.Getenv)
	if err != nil {
		return image.Artifact{}, dockerFault(e, err)
	}
	docker, err := e.connect(b.options.Getenv, b.options.UserAgent)
	if err != nil {
		return image.Artifact{}, dockerFault(e, err)
	}
	defer func() { _ = docker.Close() }()
	if _, err := docker.ImageInspect(ctx, ref); errdefs.IsNotFound(err) {
		return image.Artifact{}, fmt.Errorf("the Docker engine at %s has no such image", e.host)
	} else if err != nil {
		return image.Artifact{}, dockerFault(e, err)
	}
	saved, err := save(ctx, docker, ref)
	if err != nil {
		return image.Artifact{}, dockerFault(e, err)
	}
	defer saved.Close()
	file, err := b.spool(ctx, saved)
	if err != nil {
		return image.Artifact{}, err
	}
	a, err := indexArchive(ctx, file)
	if err != nil {
		return image.Artifact{}, err
	}
	return savedImage(a, "")
}

// save asks for linux/amd64 where the engine's store can hold several platforms under one name (API 1.48, and only
// containerd's image store); where it refuses, for what there is, which the checks then judge.
func save(ctx context.Context, docker *client.Client, ref string) (client.ImageSaveResult, error) {
	saved, err := docker.ImageSave(ctx, []string{ref}, client.ImageSaveWithPlatforms(ocispec.Platform{OS: "linux", Architecture: "amd64"}))
	if err == nil || ctx.Err() != nil {
		return saved, err
	}
	return docker.ImageSave(ctx, []string{ref})
}

func dockerFault(e dockerEndpoint, err error) error {
	return &fault.Error{Code: fault.EngineUnreachable, Op: "reach the Docker engine", Object: e.host,
		Cause: fault.Bounded(err.Error()), Err: err,
		Remedy: "Start the engine, set DOCKER_HOST, or save the image elsewhere by docker save -o FILE NAME:TAG and name it " +
			"as docker-archive:FILE."}
}
