package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Build is how images are built, for all connectors of a run.
type Build struct {
	// Builder is "auto" or the one kind of build engine that may be used: buildkit, buildx, docker or buildkitd.
	Builder string
	// BuildkitHosts are addresses of BuildKit; builds are spread over them.
	BuildkitHosts []string
}

func buildInputs() []Input {
	return []Input{
		{Name: "dockerfile", Group: GroupBuild, Kind: Text,
			Help: "Dockerfile to build, relative to the connector's folder. Without it the file Dockerfile, where there is one."},
		{Name: "target", Group: GroupBuild, Kind: Text,
			Help: "Stage of the Dockerfile to build. Without it the last."},
		{Name: "platforms", Group: GroupBuild, Kind: List, Default: "linux/amd64",
			Help: "Platforms to build for. linux/amd64 must be among them, because every Airbyte can run it."},
		{Name: "build-args", Group: GroupBuild, Kind: Lines,
			Help: "Build arguments, one NAME=value per line; NAME alone takes the value of the environment variable. Not for secrets: they can be read in the image."},
		{Name: "build-secrets", Group: GroupBuild, Kind: Lines,
			Help: "Secrets for RUN --mount=type=secret, one per line: id=NAME,env=VARIABLE or id=NAME,src=FILE. They are in no layer, log or cache."},
		{Name: "labels", Group: GroupBuild, Kind: Lines,
			Help: "Further labels of the image, one NAME=value per line."},
		{Name: "cache-from", Group: GroupBuild, Kind: Lines,
			Help: "Caches to read, one per line, in docker's notation: type=registry,ref=REFERENCE, type=gha, type=local,src=FOLDER, or a REFERENCE."},
		{Name: "cache-to", Group: GroupBuild, Kind: Lines,
			Help: "Caches to write, one per line, in docker's notation: type=registry,ref=REFERENCE,mode=max, type=gha, type=local,dest=FOLDER or type=inline."},
		{Name: "builder", Group: GroupBuild, Kind: Enum, Values: []string{"auto", "buildkit", "buildx", "docker", "buildkitd"}, Default: "auto",
			Help: "What builds: buildkit (the addresses of buildkit-host), buildx (this machine's current builder), docker (the engine's own BuildKit), buildkitd (a program on PATH, started for the run), or auto, the first of these that is there."},
		{Name: "buildkit-host", Group: GroupBuild, Kind: List,
			Help: "Addresses of BuildKit to spread builds over: unix:///run/buildkit/buildkitd.sock, tcp://HOST:PORT?cacert=FILE&cert=FILE&key=FILE, docker-container://NAME. Without it BUILDKIT_HOST."},
		{Name: "provenance", Group: GroupBuild, Kind: Bool, Default: "false",
			Help: "Attach a provenance attestation. The tag then names an index, which some tools show as unknown/unknown."},
		{Name: "sbom", Group: GroupBuild, Kind: Bool, Default: "false",
			Help: "Attach a software bill of materials, which a scanner image makes. The tag then names an index."},
	}
}

func (r *reader) build() Build {
	b := Build{Builder: r.enum("builder"), BuildkitHosts: r.list("buildkit-host")}
	for _, address := range b.BuildkitHosts {
		u, err := url.Parse(address)
		if err != nil || (u.Scheme != "unix" && u.Scheme != "tcp" && u.Scheme != "docker-container") {
			r.reject(fault.InvalidInput, "buildkit-host", fmt.Sprintf("%q is not an address of BuildKit", fault.Bounded(address)),
				"Write unix://PATH, tcp://HOST:PORT or docker-container://NAME.")
		}
	}
	if r.given("buildkit-host") && b.Builder != "auto" && b.Builder != "buildkit" {
		r.reject(fault.ConflictingInputs, "buildkit-host", "builder is "+b.Builder+", which uses no address", "Leave one of the two out.")
	}
	return b
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$`)

// recipe is what the inputs say about building an image; it is the same for all connectors of a run.
func (r *reader) recipe() connector.Recipe {
	recipe := connector.Recipe{
		Dockerfile: r.text("dockerfile"), Target: r.text("target"), Platforms: r.list("platforms"),
		Args: r.pairs("build-args", true), Labels: r.pairs("labels", false), Secrets: r.buildSecrets(),
		CacheFrom: r.caches("cache-from", "src"), CacheTo: r.caches("cache-to", "dest"),
		Provenance: r.bool("provenance"), SBOM: r.bool("sbom"),
	}
	amd64 := false
	for _, p := range recipe.Platforms {
		amd64 = amd64 || p == "linux/amd64"
		if !platformPattern.MatchString(p) {
			r.reject(fault.InvalidInput, "platforms", fmt.Sprintf("%q is not a platform", fault.Bounded(p)), "Write it as linux/amd64 or linux/arm64.")
		}
	}
	if !amd64 {
		r.reject(fault.InvalidInput, "platforms", r.values["platforms"].String()+" lacks linux/amd64, which every Airbyte can run", "Add linux/amd64.")
	}
	return recipe
}

// caches is the value of an input that lists caches, in docker's notation. local names the field with the folder of a
// cache that is one.
func (r *reader) caches(input, local string) []string {
	need := map[string]string{"registry": "ref", "local": local, "gha": "", "inline": ""}
	lines := r.lines(input)
	for _, line := range lines {
		if !strings.Contains(line, "=") {
			continue // A reference alone is a cache in a registry.
		}
		fields := map[string]string{}
		for field := range strings.SplitSeq(line, ",") {
			key, text, _ := strings.Cut(strings.TrimSpace(field), "=")
			fields[key] = text
		}
		field, known := need[fields["type"]]
		switch {
		case !known:
			r.reject(fault.InvalidInput, input, fmt.Sprintf("%q has no type that is known", fault.Bounded(line)), "Write type=registry, local, gha or inline.")
		case field != "" && fields[field] == "":
			r.reject(fault.InvalidInput, input, fmt.Sprintf("%q lacks %s=", fault.Bounded(line), field), "Add it.")
		}
	}
	return lines
}

// lines is the value of an input that has one item per line.
func (r *reader) lines(input string) []string {
	var items []string
	for line := range strings.Lines(r.values[input].text) {
		if line = strings.TrimSpace(line); line != "" {
			items = append(items, line)
		}
	}
	return items
}

// pairs is the value of an input that has one NAME=value per line. With environment, a NAME alone stands for the
// variable of that name.
func (r *reader) pairs(input string, environment bool) map[string]string {
	var all map[string]string
	for _, line := range r.lines(input) {
		name, text, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		switch {
		case name == "" || strings.ContainsAny(name, " \t"):
			r.reject(fault.InvalidInput, input, fmt.Sprintf("a line does not begin with a name: %q", fault.Bounded(line)), "Write NAME=value.")
			continue
		case !found && !environment:
			r.reject(fault.InvalidInput, input, fmt.Sprintf("%q has no value", fault.Bounded(line)), "Write NAME=value.")
			continue
		case !found:
			if text = r.getenv(name); text == "" {
				r.reject(fault.InvalidInput, input, fmt.Sprintf("%q has no value, and there is no environment variable of that name", fault.Bounded(name)),
					"Write NAME=value, or set the variable.")
				continue
			}
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = text
	}
	return all
}

// buildSecrets reads the contents of the secret mounts. Their values are masked like every other secret.
func (r *reader) buildSecrets() map[string][]byte {
	const input = "build-secrets"
	var all map[string][]byte
	for _, line := range r.lines(input) {
		id, content, err := r.buildSecret(line)
		if err != nil {
			r.reject(fault.InvalidInput, input, err.Error(), "Write id=NAME,env=VARIABLE or id=NAME,src=FILE.")
			continue
		}
		if all == nil {
			all = map[string][]byte{}
		}
		if content != nil {
			all[id] = content
			r.secrets.add(string(content))
		}
	}
	return all
}

// buildSecret reads one line. Its errors never show the line: a person may have put the secret itself there.
func (r *reader) buildSecret(line string) (id string, content []byte, err error) {
	var variable, file string
	for field := range strings.SplitSeq(line, ",") {
		key, text, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "id":
			id = text
		case "env":
			variable = text
		case "src", "source":
			file = text
		case "type":
		default:
			return "", nil, errors.New("a line has a field that is none of id, env and src")
		}
	}
	switch {
	case id == "":
		return "", nil, errors.New("a line has no id")
	case (variable == "") == (file == ""):
		return "", nil, fmt.Errorf("the secret %q needs one of env and src", fault.Bounded(id))
	case variable != "":
		text := r.getenv(variable)
		if text == "" {
			return "", nil, fmt.Errorf("the secret %q takes the environment variable %s, which is not set", fault.Bounded(id), fault.Bounded(variable))
		}
		return id, []byte(text), nil
	}
	// What is wrong with the file is reported already.
	content, _ = r.file("build-secrets", file)
	return id, content, nil
}
