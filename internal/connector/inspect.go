package connector

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Inspect checks, from what manifests and configs say, whether Airbyte can run the image as the connector c. It gives
// its findings in a fixed order: those of the image, then those of each platform as the index lists them. Airbyte's
// launcher runs `eval "$AIRBYTE_ENTRYPOINT spec"` in a shell, in a working directory of its own (/config, /source or
// /dest), so ENTRYPOINT and WORKDIR have no say there (airbyte-platform, ContainerCommandFactory.kt).
func Inspect(c Connector, img Image) []Finding {
	var found []Finding
	found = append(found, inspectName(c)...)
	found = append(found, inspectPlatforms(img)...)
	for _, p := range img.Platforms {
		if !strings.HasPrefix(p.Platform, "linux/") {
			continue // Airbyte runs no other, so what such an image is like does not matter.
		}
		where := "the image"
		if img.Index {
			where = "the image for " + p.Platform
		}
		found = append(found, inspectEntrypoint(where, p)...)
		found = append(found, inspectLayers(where, p)...)
		found = append(found, inspectLabels(where, c, p)...)
	}
	return found
}

// inspectName reports what is wrong with the repository and the tag, where they are known.
func inspectName(c Connector) []Finding {
	var found []Finding
	add := func(err error) {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			found = append(found, Finding{Code: f.Code, Severity: Error,
				Message: fmt.Sprintf("The image name %s can't be used: %s.", f.Object, f.Cause), Remedy: f.Remedy})
		}
	}
	if c.Repository != "" {
		_, err := image.ParseRepository(string(c.Repository))
		add(err)
	}
	if c.Tag != "" {
		add(image.CheckTag(c.Tag))
	}
	return found
}

// inspectPlatforms wants linux/amd64, by the config: an index may claim what the image is not.
func inspectPlatforms(img Image) []Finding {
	var found []Finding
	var there []string
	amd64 := false
	for _, p := range img.Platforms {
		there = append(there, p.Platform)
		amd64 = amd64 || samePlatform(p.Platform, "linux/amd64")
		if p.Claimed != "" && !samePlatform(p.Claimed, p.Platform) {
			found = append(found, Finding{Code: fault.WrongConfigPlatform, Severity: Error,
				Message: fmt.Sprintf("The index calls %s %s, but the image's config says %s, so a node would run it on the wrong architecture.",
					fault.Bounded(p.Digest), fault.Bounded(p.Claimed), fault.Bounded(p.Platform)),
				Remedy: "Build for the platform that the index names; a base image given by the digest of one" +
					" architecture is the usual cause."})
		}
	}
	if amd64 {
		return found
	}
	message := "The image has no linux/amd64, only " + fault.Bounded(strings.Join(there, ", ")) +
		"; Airbyte's nodes would fail with \"exec format error\" or wait until they time out."
	if len(there) == 0 {
		message = "The index names no image that can run."
	}
	return append(found, Finding{Code: fault.NoAMD64, Severity: Error, Message: message,
		Remedy: "Build it for linux/amd64, such as by docker buildx build --platform linux/amd64."})
}

// samePlatform compares os and architecture, and the variants where both name one: configs often leave them out.
func samePlatform(a, b string) bool {
	x, y := strings.SplitN(a, "/", 3), strings.SplitN(b, "/", 3)
	if len(x) < 2 || len(y) < 2 || x[0] != y[0] || x[1] != y[1] {
		return false
	}
	return len(x) == 2 || len(y) == 2 || x[2] == y[2]
}

func inspectEntrypoint(where string, p PlatformImage) []Finding {
	command, _ := environment(p.Env, "AIRBYTE_ENTRYPOINT")
	if strings.TrimSpace(command) == "" {
		return []Finding{{Code: fault.NoEntrypoint, Severity: Error,
			Message: fmt.Sprintf("AIRBYTE_ENTRYPOINT is not set in %s;"+
				" Airbyte runs nothing else, and waits about nine minutes before it fails.", where),
			Remedy: fmt.Sprintf("Add to the Dockerfile: ENV AIRBYTE_ENTRYPOINT=%q", suggestedEntrypoint(p))}}
	}
	words, ok := splitCommand(command)
	if !ok || strings.ContainsAny(command, "\n\r\x00") {
		what := "a quote that is not closed"
		if ok {
			what = "a line break"
		}
		return []Finding{{Code: fault.BadEntrypoint, Severity: Error,
			Message: fmt.Sprintf("AIRBYTE_ENTRYPOINT in %s holds %s: %q. Airbyte appends \" spec\" and gives it to a shell.",
				where, what, fault.Bounded(command)),
			Remedy: "Make it one command on one line, such as \"python /airbyte/integration_code/main.py\"."}}
	}
	for len(words) > 0 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	var found []Finding
	switch program := programPath(words); {
	case program == "":
		found = append(found, Finding{Code: fault.RelativeEntrypoint, Severity: Warning,
			Message: fmt.Sprintf("AIRBYTE_ENTRYPOINT in %s names no absolute path: %q. Airbyte runs it in a directory of its own,"+
				" so it works only where PATH or the interpreter finds it.", where, fault.Bounded(command)),
			Remedy: "Name the program by its absolute path."})
	case !isAbsolute(program):
		found = append(found, Finding{Code: fault.RelativeEntrypoint, Severity: Error,
			Message: fmt.Sprintf("AIRBYTE_ENTRYPOINT in %s names %q by a relative path. Airbyte runs it in a directory of its own,"+
				" not in WORKDIR, and does not find it.", where, fault.Bounded(program)),
			Remedy: fmt.Sprintf("Name it by its absolute path: ENV AIRBYTE_ENTRYPOINT=%q", absoluteCommand(words, program, p))})
	}
	return append(found, inspectDockerEntrypoint(where, command, words, p)...)
}

// inspectDockerEntrypoint compares with ENTRYPOINT, which is what `docker run IMAGE spec` and an Airbyte on Docker
// Compose (up to 0.63) run: a difference means that what was tried by hand is not what Airbyte runs.
func inspectDockerEntrypoint(where, command string, words []string, p PlatformImage) []Finding {
	warn := func(format string, args ...any) []Finding {
		return []Finding{{Code: fault.DifferentEntrypoint, Severity: Warning, Message: fmt.Sprintf(format, args...),
			Remedy: "Write ENTRYPOINT in exec form with the same command as AIRBYTE_ENTRYPOINT."}}
	}
	entrypoint := p.Entrypoint
	if len(entrypoint) == 0 {
		return warn("ENTRYPOINT is not set in %s, so docker run IMAGE spec does not do what Airbyte does.", where)
	}
	if script, ok := shellForm(entrypoint); ok {
		passes := strings.Contains(script, "$@") || strings.Contains(script, "$*")
		if !passes {
			return warn("ENTRYPOINT in %s is in shell form, which drops arguments:"+
				" docker run IMAGE spec runs it without \"spec\".", where)
		}
		entrypoint, _ = splitCommand(script)
		entrypoint = slices.DeleteFunc(entrypoint, func(w string) bool { return w == "$@" || w == "$*" || w == "exec" })
	}
	if sameCommand(words, entrypoint, p) {
		return nil
	}
	return warn("AIRBYTE_ENTRYPOINT and ENTRYPOINT differ in %s: %q and %q. Airbyte runs the first, docker run the second.",
		where, fault.Bounded(command), fault.Bounded(strings.Join(p.Entrypoint, " ")))
}

// suggestedEntrypoint is what AIRBYTE_ENTRYPOINT would most likely have to be, taken from ENTRYPOINT.
func suggestedEntrypoint(p PlatformImage) string {
	words := p.Entrypoint
	if script, ok := shellForm(words); ok {
		words, _ = splitCommand(script)
	}
	if len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.ContainsAny(w, " \t\r\n\"'$\\") }) {
		return "/path/to/the/connector"
	}
	return absoluteCommand(words, programPath(words), p)
}

// absoluteCommand writes the command with its program's path made absolute by the image's working directory.
func absoluteCommand(words []string, program string, p PlatformImage) string {
	absolute := slices.Clone(words)
	if i := slices.Index(absolute, program); i >= 0 && !isAbsolute(program) {
		absolute[i] = path.Join("/", p.WorkingDir, program)
	}
	return fault.Bounded(strings.Join(absolute, " "))
}

// layerTypes are the layers that every engine Airbyte runs on can unpack.
var layerTypes = []string{
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar",
}

func inspectLayers(where string, p PlatformImage) []Finding {
	counts := map[string]int{}
	var types []string
	for _, l := range p.Layers {
		if !slices.Contains(layerTypes, l.MediaType) {
			if counts[l.MediaType] == 0 {
				types = append(types, l.MediaType)
			}
			counts[l.MediaType]++
		}
	}
	var found []Finding
	for _, mediaType := range types {
		some := fmt.Sprintf("%d of %d layers of %s", counts[mediaType], len(p.Layers), where)
		f := Finding{Code: fault.LayerCompression, Severity: Error}
		switch {
		case strings.HasSuffix(mediaType, "zstd"):
			f.Message = some + " are compressed with zstd, which older engines can't unpack."
			f.Remedy = "Build with gzip: docker buildx build --output type=image,compression=gzip,force-compression=true."
		case strings.Contains(mediaType, "foreign") || strings.Contains(mediaType, "nondistributable"):
			f.Message = some + " are foreign: registries need not hold them, so a node may not get them."
			f.Remedy = "Use a base image whose layers can be distributed."
		default:
			f.Message = fmt.Sprintf("%s have the media type %q, which container engines do not unpack.", some, fault.Bounded(mediaType))
			f.Remedy = "Give a container image; another kind of artifact can't be run."
		}
		found = append(found, f)
	}
	return found
}

// inspectLabels compares the labels that Airbyte's build tools set with what is published. The platform reads neither.
func inspectLabels(where string, c Connector, p PlatformImage) []Finding {
	var found []Finding
	check := func(label, input, actual, fromMetadata string, same func(a, b string) bool) {
		value := p.Labels[label]
		if value == "" || actual == "" || same(value, actual) || fromMetadata != "" && same(value, fromMetadata) {
			return
		}
		found = append(found, Finding{Code: fault.LabelsDisagree, Severity: Warning,
			Message: fmt.Sprintf("The label %s of %s is %q, but the %s is %q.",
				label, where, fault.Bounded(value), input, fault.Bounded(actual)),
			Remedy: "Check that this is the image you mean; if so, correct the label."})
	}
	var m Metadata
	if c.Metadata != nil {
		m = *c.Metadata
	}
	check("io.airbyte.name", "repository", string(c.Repository), m.DockerRepository,
		func(a, b string) bool { return image.Normalise(a) == image.Normalise(b) })
	check("io.airbyte.version", "tag", c.Tag, m.DockerImageTag, func(a, b string) bool { return a == b })
	return found
}
