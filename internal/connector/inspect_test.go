package connector_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// codes are the findings as "AP201 error", in their order.
func codes(findings []connector.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s %s", f.Code, f.Severity))
	}
	return all
}

// goodImage is an image that Airbyte runs; edit makes something wrong with it.
func goodImage(edit func(p *connector.PlatformImage)) connector.Image {
	p := connector.PlatformImage{Platform: "linux/amd64", Digest: "sha256:aa", WorkingDir: "/airbyte/integration_code",
		Env:        []string{"PATH=/usr/local/bin:/usr/bin", "AIRBYTE_ENTRYPOINT=python /airbyte/integration_code/main.py"},
		Entrypoint: []string{"python", "/airbyte/integration_code/main.py"},
		Layers:     []connector.Layer{{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: "sha256:bb", Size: 1}}}
	if edit != nil {
		edit(&p)
	}
	return connector.Image{Digest: "sha256:aa", Platforms: []connector.PlatformImage{p}}
}

// commands is an image with this AIRBYTE_ENTRYPOINT and ENTRYPOINT.
func commands(airbyte string, entrypoint ...string) connector.Image {
	return goodImage(func(p *connector.PlatformImage) {
		p.Env = []string{"PATH=/usr/local/bin:/usr/bin", "AIRBYTE_ENTRYPOINT=" + airbyte}
		p.Entrypoint = entrypoint
	})
}

func layers(types ...string) connector.Image {
	return goodImage(func(p *connector.PlatformImage) {
		p.Layers = nil
		for _, t := range types {
			p.Layers = append(p.Layers, connector.Layer{MediaType: t})
		}
	})
}

func labels(name, version string) connector.Image {
	return goodImage(func(p *connector.PlatformImage) {
		p.Labels = map[string]string{"io.airbyte.name": name, "io.airbyte.version": version}
	})
}

// index is an index of good images, each "claimed=actual".
func index(platforms ...string) connector.Image {
	img := connector.Image{Digest: "sha256:cc", Index: true}
	for _, p := range platforms {
		one := goodImage(nil).Platforms[0]
		one.Claimed, one.Platform, _ = strings.Cut(p, "=")
		img.Platforms = append(img.Platforms, one)
	}
	return img
}

func TestInspect(t *testing.T) {
	t.Parallel()
	const (
		missing, relative, relativeWarning, differs = "AP201 error", "AP202 error", "AP202 warning", "AP203 warning"
		noAMD64, compression, label                 = "AP204 error", "AP205 error", "AP206 warning"
		wrongPlatform, syntax                       = "AP208 error", "AP209 error"
	)
	good := connector.Connector{Repository: "ghcr.io/acme/source-x", Tag: "1.2.3",
		Metadata: &connector.Metadata{DockerRepository: "airbyte/source-x", DockerImageTag: "1.2.3"}}
	tests := map[string]struct {
		c    connector.Connector
		img  connector.Image
		want []string
		// text must stand in the first finding's message or remedy.
		text string
	}{
		"good":                     {good, goodImage(nil), nil, ""},
		"no environment":           {good, goodImage(func(p *connector.PlatformImage) { p.Env = nil }), []string{missing}, `ENV AIRBYTE_ENTRYPOINT="python /airbyte/integration_code/main.py"`},
		"no entrypoint at all":     {good, goodImage(func(p *connector.PlatformImage) { p.Env, p.Entrypoint = nil, nil }), []string{missing}, `ENV AIRBYTE_ENTRYPOINT="/path/to/the/connector"`},
		"relative suggestion":      {good, goodImage(func(p *connector.PlatformImage) { p.Env, p.Entrypoint = nil, []string{"sh", "-c", "./run.sh"} }), []string{missing}, `ENV AIRBYTE_ENTRYPOINT="/airbyte/integration_code/run.sh"`},
		"blank":                    {good, commands(" \t", "/x"), []string{missing}, "not set"},
		"last one counts":          {good, goodImage(func(p *connector.PlatformImage) { p.Env = append(p.Env, "AIRBYTE_ENTRYPOINT=") }), []string{missing}, "nine minutes"},
		"one program":              {good, commands("/entrypoint.sh", "/entrypoint.sh"), nil, ""},
		"dot path":                 {good, commands("./source-x", "./source-x"), []string{relative, differs}, `ENV AIRBYTE_ENTRYPOINT="/airbyte/integration_code/source-x"`},
		"relative script":          {good, commands("python main.py", "python", "/airbyte/integration_code/main.py"), []string{relative, differs}, `names "main.py" by a relative path`},
		"relative jar":             {good, commands("java -Xmx1g -jar app.jar", "java", "-Xmx1g", "-jar", "/app.jar"), []string{relative, differs}, "app.jar"},
		"interpreter by path":      {good, commands("/usr/bin/python3.11 -u main.py", "/usr/bin/python3.11", "-u", "main.py"), []string{relative, differs}, "main.py"},
		"tracing prefix":           {good, commands("ddtrace-run python /airbyte/integration_code/main.py", "ddtrace-run", "python", "/airbyte/integration_code/main.py"), nil, ""},
		"variable prefix":          {good, commands("LOG=a/b python /airbyte/integration_code/main.py", "python", "/airbyte/integration_code/main.py"), nil, ""},
		"argument like a path":     {good, commands("/run.sh conf/x.yml", "/run.sh", "conf/x.yml"), []string{differs}, "differ"},
		"quoted path":              {good, commands(`python "/airbyte/my code/main.py"`, "python", "/airbyte/my code/main.py"), nil, ""},
		"escaped and single":       {good, commands(`'/airbyte/run me' a\ b "c\"d\e"`, "/airbyte/run me", "a b", `c"d\e`), nil, ""},
		"by a variable":            {good, commands("$JAVA_HOME/bin/java -jar /app.jar", "$JAVA_HOME/bin/java", "-jar", "/app.jar"), nil, ""},
		"in PATH":                  {good, commands("source-x", "source-x"), []string{relativeWarning}, "names no absolute path"},
		"module":                   {good, commands("python -m source_x.run a/b", "python", "-m", "source_x.run", "a/b"), []string{relativeWarning, differs}, "python -m"},
		"URL is no path":           {good, commands("source-x --at https://a/b", "source-x", "--at", "https://a/b"), []string{relativeWarning}, ""},
		"open quote":               {good, commands(`python "/main.py`, "python", "/main.py"), []string{syntax}, "a quote that is not closed"},
		"backslash at the end":     {good, commands(`/main \`, "/main"), []string{syntax}, "not closed"},
		"two lines":                {good, commands("cd /x\n::error::/run", "/run"), []string{syntax}, `a line break: "cd /x ::error::/run"`},
		"line break at the end":    {good, commands("/run\n", "/run"), []string{syntax}, "a line break"},
		"other entrypoint":         {good, commands("/a", "/b"), []string{differs}, `"/a" and "/b"`},
		"no ENTRYPOINT":            {good, commands("/a"), []string{differs}, "ENTRYPOINT is not set"},
		"same by WORKDIR":          {good, commands("python /airbyte/integration_code/main.py", "python", "main.py"), nil, ""},
		"same but unclean":         {good, commands("/airbyte//x/../run", "/airbyte/run"), nil, ""},
		"same by PATH":             {good, commands("/usr/local/bin/python /main.py", "python", "/main.py"), nil, ""},
		"other by PATH":            {good, commands("/opt/python /main.py", "python", "/main.py"), []string{differs}, "differ"},
		"same with exec":           {good, commands("exec /run", "/run"), nil, ""},
		"shell form":               {good, commands("/run", "/bin/sh", "-c", "/run"), []string{differs}, "shell form, which drops arguments"},
		"shell form passing on":    {good, commands("python /main.py", "sh", "-c", `exec python /main.py "$@"`, "--"), nil, ""},
		"shell form, other":        {good, commands("python /main.py", "sh", "-c", `python /other.py "$@"`, "--"), []string{differs}, "differ"},
		"only arm64":               {good, goodImage(func(p *connector.PlatformImage) { p.Platform = "linux/arm64" }), []string{noAMD64}, "only linux/arm64"},
		"only windows":             {good, goodImage(func(p *connector.PlatformImage) { p.Platform, p.Env = "windows/amd64", nil }), []string{noAMD64}, "only windows/amd64"},
		"no platform":              {good, connector.Image{Index: true}, []string{noAMD64}, "names no image"},
		"config without platform":  {good, goodImage(func(p *connector.PlatformImage) { p.Platform = "" }), []string{noAMD64}, ""},
		"amd64 variant":            {good, goodImage(func(p *connector.PlatformImage) { p.Platform = "linux/amd64/v2" }), nil, ""},
		"index of two":             {good, index("linux/amd64=linux/amd64", "linux/arm64/v8=linux/arm64"), nil, ""},
		"index, nothing claimed":   {good, index("=linux/amd64"), nil, ""},
		"index lies":               {good, index("linux/amd64=linux/arm64"), []string{wrongPlatform, noAMD64}, "calls sha256:aa linux/amd64, but the image's config says linux/arm64"},
		"index lies of arm":        {good, index("linux/amd64=linux/amd64", "linux/arm64=linux/amd64"), []string{wrongPlatform}, "wrong architecture"},
		"index, variants differ":   {good, index("linux/amd64=linux/amd64", "linux/arm/v7=linux/arm/v6"), []string{wrongPlatform}, "linux/arm/v7"},
		"docker layers":            {good, layers("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"), nil, ""},
		"zstd layers":              {good, layers("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar+zstd"), []string{compression}, "2 of 3 layers of the image are compressed with zstd"},
		"foreign layer":            {good, layers("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), []string{compression}, "foreign"},
		"not distributable":        {good, layers("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), []string{compression}, "foreign"},
		"no layer type":            {good, layers("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "x\n::error::y"), []string{compression, compression}, "helm.chart"},
		"labels agree":             {good, labels("ghcr.io/acme/source-x", "1.2.3"), nil, ""},
		"labels of metadata":       {connector.Connector{Repository: good.Repository, Tag: "1.2.3-abc", Metadata: good.Metadata}, labels("airbyte/source-x", "1.2.3"), nil, ""},
		"labels disagree":          {good, labels("ghcr.io/acme/source-y", "1.2.4"), []string{label, label}, `The label io.airbyte.name of the image is "ghcr.io/acme/source-y", but the repository is "ghcr.io/acme/source-x"`},
		"labels, no metadata":      {connector.Connector{Repository: good.Repository, Tag: "2"}, labels("airbyte/source-x", "2"), []string{label}, ""},
		"labels, nothing to check": {connector.Connector{}, labels("a", "b"), nil, ""},
		"bad repository":           {connector.Connector{Repository: "acme/source-x", Tag: "1"}, goodImage(nil), []string{"AP110 error"}, "it names no registry"},
		"bad tag":                  {connector.Connector{Repository: "ghcr.io/x/x", Tag: "-1"}, goodImage(nil), []string{"AP111 error"}, "not a legal tag"},
		"many at once": {good, goodImage(func(p *connector.PlatformImage) {
			p.Platform, p.Env = "linux/arm64", nil
			p.Layers[0].MediaType += "zstd"
		}), []string{noAMD64, missing, compression}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := connector.Inspect(test.c, test.img)
			if diff := cmp.Diff(test.want, codes(found)); diff != "" {
				t.Fatalf("findings (-want +got):\n%s\n%+v", diff, found)
			}
			if test.text != "" && !strings.Contains(found[0].Message+" "+found[0].Remedy, test.text) {
				t.Errorf("%q does not say %q", found[0].Message+" "+found[0].Remedy, test.text)
			}
			checkFindings(t, found)
		})
	}
}

// checkFindings holds every finding to what people and CI hosts need: a remedy, one line, and an end.
func checkFindings(t *testing.T, found []connector.Finding) {
	t.Helper()
	for _, f := range found {
		if _, known := fault.Titles[f.Code]; !known {
			t.Errorf("%s has no title", f.Code)
		}
		if f.Remedy == "" || f.Severity == "" || len(f.Message) > 2000 || !strings.HasSuffix(f.Message, ".") || strings.HasSuffix(f.Message, "..") {
			t.Errorf("not a whole finding: %+v", f)
		}
		if strings.ContainsFunc(f.Message+f.Remedy, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("control characters in %q %q", f.Message, f.Remedy)
		}
	}
}

func TestInspectNamesThePlatformOfAnIndex(t *testing.T) {
	t.Parallel()
	img := index("linux/amd64=linux/amd64", "linux/arm64=linux/arm64", "windows/amd64=windows/amd64")
	for i := range img.Platforms {
		img.Platforms[i].Env = nil
	}
	found := connector.Inspect(connector.Connector{}, img)
	if diff := cmp.Diff([]string{"AP201 error", "AP201 error"}, codes(found)); diff != "" {
		t.Fatal(diff)
	}
	for i, platform := range []string{"linux/amd64", "linux/arm64"} {
		if !strings.Contains(found[i].Message, "the image for "+platform) {
			t.Errorf("finding %d does not name %s: %s", i, platform, found[i].Message)
		}
	}
	if diff := cmp.Diff(found, connector.Inspect(connector.Connector{}, img)); diff != "" {
		t.Errorf("a second look differs:\n%s", diff)
	}
}
