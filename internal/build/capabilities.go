package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	buildkit "github.com/moby/buildkit/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// capabilities are what an engine can do, known before it builds anything.
type capabilities struct {
	// version is BuildKit's ("v0.33.1"), or empty where the engine does not tell.
	version string
	// platforms are those that it can execute RUN for, by emulation too ("linux/amd64", "linux/arm64").
	platforms []string
	// multiPlatform and attestations tell that it can export several platforms, and provenance and SBOM.
	multiPlatform, attestations bool
	// cacheExports are the types that cache-to may have.
	cacheExports []string
	// snapshotter is the worker's, empty where a Docker engine's graph driver keeps the layers.
	snapshotter string
}

// capabilitiesOf are those of a BuildKit daemon. info is nil where it does not tell, which is before 0.11; attestations
// came with that version too.
func capabilitiesOf(worker *buildkit.WorkerInfo, info *buildkit.Info) capabilities {
	c := capabilities{
		multiPlatform: true, attestations: info != nil, cacheExports: []string{"inline", "registry", "local", "gha", "s3", "azblob"},
		snapshotter: worker.Labels["org.mobyproject.buildkit.worker.snapshotter"],
	}
	if info != nil {
		c.version = info.BuildkitVersion.Version
	}
	for _, p := range worker.Platforms {
		c.platforms = append(c.platforms, platforms.FormatAll(platforms.Normalize(p)))
	}
	return c
}

// withGraphDriver are those of a Docker engine whose images are not in containerd's store.
func (c capabilities) withGraphDriver() capabilities {
	c.multiPlatform, c.attestations, c.cacheExports = false, false, []string{"inline"}
	return c
}

// check tells, before anything is built, what the recipe asks for and the engine can't do: a *fault.Error with the code
// EngineLacks. What will only fail if it has to run a program is told to log as a warning.
func (e *engine) check(r connector.Recipe, log connector.Log) error {
	var lacks []string
	if len(r.Platforms) > 1 && !e.caps.multiPlatform {
		lacks = append(lacks, "build for several platforms at once (platforms is "+strings.Join(r.Platforms, ", ")+")")
	}
	if (r.Provenance || r.SBOM) && !e.caps.attestations {
		lacks = append(lacks, "attach provenance or an SBOM")
	}
	for _, to := range r.CacheTo {
		if kind := cacheType(to); !slices.Contains(e.caps.cacheExports, kind) {
			lacks = append(lacks, "write a cache of type "+fault.Bounded(kind))
		}
	}
	if len(lacks) > 0 {
		return &fault.Error{Code: fault.EngineLacks, Op: "build", Object: e.name,
			Cause: "it can't " + strings.Join(lacks, ", nor "), Remedy: e.lacksRemedy()}
	}
	for _, p := range r.Platforms {
		if !e.runs(p) {
			log.Finding(connector.Finding{Code: fault.EngineLacks, Severity: connector.Warning,
				Message: fmt.Sprintf("%s can't run programs for %s, only for %s. A RUN instruction for it will fail.",
					e.name, fault.Bounded(p), strings.Join(e.caps.platforms, ", ")),
				Remedy: "Install QEMU's emulators on its machine (docker run --privileged --rm tonistiigi/binfmt --install all, or " +
					"docker/setup-qemu-action), or compile for it in a stage FROM --platform=$BUILDPLATFORM."})
		}
	}
	return nil
}

func (e *engine) lacksRemedy() string {
	if e.kind != kindDocker {
		return "Take a newer BuildKit, or leave the input out."
	}
	return "Turn on the engine's containerd image store ({\"features\": {\"containerd-snapshotter\": true}} in daemon.json), use a " +
		"BuildKit of its own (docker buildx create --use --bootstrap, docker/setup-buildx-action, or buildkit-host), or leave the input out."
}

// runs tells whether the engine can run programs for a platform. One that does not say what it can is believed to.
func (e *engine) runs(platform string) bool {
	wanted, err := platforms.Parse(platform)
	if err != nil || len(e.caps.platforms) == 0 {
		return err == nil
	}
	return slices.ContainsFunc(e.caps.platforms, func(can string) bool {
		p, err := platforms.Parse(can)
		return err == nil && platforms.Only(p).Match(wanted)
	})
}

// cacheType is the type of an entry in docker's notation; a bare reference is one in a registry.
func cacheType(entry string) string {
	for field := range strings.SplitSeq(entry, ",") {
		if kind, ok := strings.CutPrefix(strings.TrimSpace(field), "type="); ok {
			return kind
		}
	}
	return "registry"
}
