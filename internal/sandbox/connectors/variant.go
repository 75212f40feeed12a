package connectors

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The variants: images that are wrong in one way each. The first group is wrong by what manifest and config say, with
// a spec that works; the second by what spec does.
const (
	// NoEntrypoint has an ENTRYPOINT but no AIRBYTE_ENTRYPOINT.
	NoEntrypoint = "no-entrypoint"
	// RelativeEntrypoint starts "./misbehave", from the image's working folder.
	RelativeEntrypoint = "relative-entrypoint"
	// DifferentEntrypoint starts another program by Docker than by Airbyte.
	DifferentEntrypoint = "different-entrypoint"
	// ARM64Only names linux/arm64 in its config.
	ARM64Only = "arm64-only"
	// ZstdLayer has a layer that is compressed with zstd.
	ZstdLayer = "zstd-layer"
	// NoShell has the connector and nothing else.
	NoShell = "no-shell"

	// Crash writes to standard error and exits with 3.
	Crash = "crash"
	// Hang logs a line, another one for each signal that asks it to end, and never ends.
	Hang = "hang"
	// NoSpec logs a line and exits with 0.
	NoSpec = "no-spec"
	// ErrorTrace prints a TRACE of type ERROR and exits with 1.
	ErrorTrace = "error-trace"
	// HugeOutput prints 64 MiB before its SPEC.
	HugeOutput = "huge-output"
	// NeedsNetwork prints a SPEC only where it can talk to itself over 127.0.0.1.
	NeedsNetwork = "needs-network"
	// EchoEnvironment logs every variable of its environment before its SPEC.
	EchoEnvironment = "echo-environment"
	// Print writes the variables MISBEHAVE_STDOUT and MISBEHAVE_STDERR and exits with MISBEHAVE_EXIT; see Env.
	Print = "print"
)

// variant says in what an image differs from a good one.
type variant struct {
	architecture string
	mediaType    types.MediaType
	bare         bool // without Base
	option       Option
}

var variants = map[string]variant{
	NoEntrypoint:        {option: func(c *v1.Config) { unset(c, "AIRBYTE_ENTRYPOINT") }},
	RelativeEntrypoint:  {option: entrypoint("./misbehave")},
	DifferentEntrypoint: {option: func(c *v1.Config) { c.Entrypoint = []string{"/airbyte/something-else"} }},
	// The programs in it stay amd64: nothing starts them, and an image is judged by what its config says.
	ARM64Only:       {architecture: "arm64"},
	ZstdLayer:       {mediaType: types.OCILayerZStd},
	NoShell:         {bare: true},
	Crash:           {option: Env("MISBEHAVE", Crash)},
	Hang:            {option: Env("MISBEHAVE", Hang)},
	NoSpec:          {option: Env("MISBEHAVE", NoSpec)},
	ErrorTrace:      {option: Env("MISBEHAVE", ErrorTrace)},
	HugeOutput:      {option: Env("MISBEHAVE", HugeOutput)},
	NeedsNetwork:    {option: Env("MISBEHAVE", NeedsNetwork)},
	EchoEnvironment: {option: Env("MISBEHAVE", EchoEnvironment)},
	Print:           {option: Env("MISBEHAVE", Print)},
}

// Variants are the names of all variants, sorted.
func Variants() []string { return slices.Sorted(maps.Keys(variants)) }

// Variant is an image that is wrong in the way of that name, by the connector in misbehave. It is called
// example.com/misbehave:0.1.0 in its labels.
func Variant(ctx context.Context, name string, options ...Option) (v1.Image, error) {
	v, ok := variants[name]
	if !ok {
		return nil, fmt.Errorf("make an image that is wrong: there is no variant %q", name)
	}
	mediaType, architecture := types.OCILayer, "amd64"
	if v.mediaType != "" {
		mediaType = v.mediaType
	}
	if v.architecture != "" {
		architecture = v.architecture
	}
	own, err := layers.get(ctx, "misbehave "+string(mediaType), func() (v1.Layer, error) {
		program, err := compile(ctx, inImages, "./internal/sandbox/connectors/misbehave")
		if err != nil {
			return nil, err
		}
		return layer(mediaType, entry{name: "airbyte/misbehave", mode: 0o755, data: program})
	})
	if err != nil {
		return nil, fmt.Errorf("make the image %s: %w", name, err)
	}
	all := []v1.Layer{own}
	if !v.bare {
		root, err := rootFS(ctx)
		if err != nil {
			return nil, fmt.Errorf("make the image %s: %w", name, err)
		}
		all = []v1.Layer{root, own}
	}
	first := []Option{entrypoint("/airbyte/misbehave"), As("example.com/misbehave", "0.1.0")}
	if v.option != nil {
		first = append(first, v.option)
	}
	return assemble(architecture, all, slices.Concat(first, options)...)
}
