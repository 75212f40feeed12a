package build

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/moby/patternmatcher/ignorefile"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// folderLayout is how the folder of a connector is laid out which has no Dockerfile, because Airbyte's own tools have one
// for its language. What is made here is what theirs make (airbytehq/airbyte, docker-images), so that a connector
// behaves the same, whoever built it; the way there is our own.
type folderLayout struct {
	// prepare finds what the template needs, or says what is missing.
	prepare  func(layoutParts) (layoutParts, error)
	template *template.Template
}

// layoutParts are what the templates are filled with.
type layoutParts struct {
	// Base is the base image, Name the connector's, such as "source-erp".
	Base, Name string
	// Git tells that a dependency is fetched by git.
	Git bool
	// Script tells that the package brings a program of the connector's name; without, main.py is run.
	Script bool
	// Archive is what Gradle made of a Java connector, relative to the folder.
	Archive string
	// Requirements is the file that names a manifest-only connector's own dependencies; Components tells of its own code.
	Requirements string
	Components   bool

	dir    string
	ignore []string
}

// layoutOf is the layout that metadata.yaml says a folder has, or nil.
func layoutOf(c connector.Connector) *folderLayout {
	has := func(language string) bool {
		return c.Metadata != nil && slices.Contains(c.Metadata.Tags, "language:"+language)
	}
	switch {
	case isFile(c.Dir, manifestFile):
		return &folderLayout{prepareManifest, manifestTemplate}
	case has("java"):
		return &folderLayout{prepareJava, javaTemplate}
	case has("python") || has("low-code"):
		return &folderLayout{preparePython, pythonTemplate}
	}
	return nil
}

// makeLayout writes the Dockerfile in memory.
func (p *blueprint) makeLayout() error {
	c := p.connector
	l := layoutOf(c)
	if c.Metadata == nil || c.Metadata.BaseImage == "" {
		return incomplete(c, "metadata.yaml names no base image",
			"Set data.connectorBuildOptions.baseImage, such as docker.io/airbyte/python-connector-base:VERSION@sha256:DIGEST, "+
				"or write a Dockerfile.")
	}
	if strings.ContainsAny(c.Metadata.BaseImage, " \t\r\n$\\\"'`") {
		cause := fmt.Sprintf("the base image %q in metadata.yaml is not a reference", fault.Bounded(c.Metadata.BaseImage))
		return incomplete(c, cause, "Correct data.connectorBuildOptions.baseImage.")
	}
	parts, err := l.prepare(layoutParts{Base: c.Metadata.BaseImage, Name: layoutName(c), dir: c.Dir, ignore: ignoredByDefault})
	if err != nil {
		if e, ok := errors.AsType[*fault.Error](err); ok {
			e.Object = c.Label
			return e
		}
		return incomplete(c, err.Error(), "Make it readable.")
	}
	var text strings.Builder
	if err := l.template.Execute(&text, parts); err != nil {
		return err
	}
	p.text, p.name = []byte(text.String()), defaultDockerfile
	p.patterns = parts.ignore
	p.ignore = []byte(strings.Join(parts.ignore, "\n") + "\n")
	return nil
}

func incomplete(c connector.Connector, cause, remedy string) error {
	return &fault.Error{Code: fault.LayoutIncomplete, Op: "build", Object: c.Label, Cause: cause, Remedy: remedy}
}

// layoutName is the connector's name as Airbyte's tools take it: the last part of its repository.
func layoutName(c connector.Connector) string {
	if name := path.Base(c.Metadata.DockerRepository); programName.MatchString(name) {
		return name
	}
	return c.Repository.Base()
}

var programName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// folderIgnore is the folder's own .dockerignore, where it has one, for the layout's default.
func (p layoutParts) folderIgnore() ([]string, error) {
	f, err := os.Open(filepath.Join(p.dir, ignoreFile))
	if errors.Is(err, os.ErrNotExist) {
		return p.ignore, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	return patterns, nil
}

// text is the content of a file of the folder, empty where there is none.
func (p layoutParts) text(name string) string {
	content, err := readBounded(filepath.Join(p.dir, name), maxDockerfileBytes)
	if err != nil {
		return ""
	}
	return string(content)
}

// byGit finds a dependency that is fetched by git, in requirements.txt and in Poetry's or the standard's tables.
var byGit = regexp.MustCompile(`git\+(https|ssh)|(?m)^[^#\n]*\{[^}\n]*\bgit\s*=`)

func preparePython(p layoutParts) (_ layoutParts, err error) {
	script := regexp.MustCompile(`(?m)^[^#\n]*["']?\b` + regexp.QuoteMeta(p.Name) + `["']?\s*=`)
	packaged := false
	for _, name := range []string{"pyproject.toml", "setup.py", "setup.cfg"} {
		content := p.text(name)
		packaged = packaged || content != ""
		p.Script = p.Script || script.MatchString(content)
		p.Git = p.Git || byGit.MatchString(content)
	}
	p.Git = p.Git || byGit.MatchString(p.text("requirements.txt"))
	switch {
	case !packaged:
		return p, &fault.Error{Code: fault.LayoutIncomplete, Op: "build",
			Cause:  "it has no pyproject.toml, setup.py or setup.cfg to install",
			Remedy: "Add a pyproject.toml, or a Dockerfile."}
	case !p.Script && !isFile(p.dir, "main.py"):
		return p, &fault.Error{Code: fault.LayoutIncomplete, Op: "build",
			Cause:  fmt.Sprintf("its package has no console script %q, and there is no main.py", p.Name),
			Remedy: fmt.Sprintf("Add %s to [project.scripts] in pyproject.toml.", p.Name)}
	}
	p.ignore, err = p.folderIgnore()
	return p, err
}

// prepareJava finds what Gradle made. Nothing else of the folder goes to the build: Gradle has read it already.
func prepareJava(p layoutParts) (layoutParts, error) {
	fail := func(cause string) (layoutParts, error) {
		return p, &fault.Error{Code: fault.LayoutIncomplete, Op: "build", Cause: cause,
			Remedy: "Run Gradle before, such as ./gradlew distTar, or write a Dockerfile."}
	}
	const folder = "build/distributions"
	for _, name := range []string{p.Name + ".tar", "airbyte-app.tar"} {
		if isFile(p.dir, path.Join(folder, name)) {
			p.Archive = path.Join(folder, name)
			break
		}
	}
	if p.Archive == "" {
		found, err := filepath.Glob(filepath.Join(p.dir, filepath.FromSlash(folder), "*.tar"))
		switch {
		case err != nil || len(found) == 0:
			return fail("there is no " + folder + "/" + p.Name + ".tar, which Gradle makes of a Java connector")
		case len(found) > 1:
			return fail("there are several archives in " + folder + ", and none is " + p.Name + ".tar or airbyte-app.tar")
		}
		p.Archive = path.Join(folder, filepath.Base(found[0]))
	}
	if strings.ContainsAny(p.Archive, " \t,\"'$\\[]*?!") {
		return fail("the archive's name " + fault.Bounded(p.Archive) + " holds characters that a Dockerfile takes for its own")
	}
	p.ignore = []string{"*", "!" + p.Archive}
	return p, nil
}

// The dependencies of a manifest-only connector that its base image does not have.
var (
	requirement        = regexp.MustCompile(`(?m)^[ \t]*[A-Za-z0-9-]`)
	projectDependency  = regexp.MustCompile(`(?m)^dependencies\s*=\s*\[\s*["']`)
	poetryDependencies = regexp.MustCompile(`(?ms)^\[tool\.poetry\.dependencies\]$(.*?)(^\[|\z)`)
	poetryDependency   = regexp.MustCompile(`(?m)^[ \t]*([A-Za-z0-9_."'-]+)[ \t]*=`)
)

// requirementsFile is the file that names a manifest-only connector's own dependencies, or empty.
func requirementsFile(p layoutParts) string {
	if requirement.MatchString(p.text("requirements.txt")) {
		return "requirements.txt"
	}
	const project = "pyproject.toml"
	content := p.text(project)
	if projectDependency.MatchString(content) {
		return project
	}
	if table := poetryDependencies.FindStringSubmatch(content); table != nil {
		for _, name := range poetryDependency.FindAllStringSubmatch(table[1], -1) {
			if name[1] != "python" && name[1] != "airbyte-cdk" {
				return project
			}
		}
	}
	return ""
}

// hasRequirements tells whether a manifest-only connector needs more than its base image has.
func hasRequirements(dir string) bool { return requirementsFile(layoutParts{dir: dir}) != "" }

func prepareManifest(p layoutParts) (_ layoutParts, err error) {
	if err := checkManifest(p.dir); err != nil {
		return p, err
	}
	p.Requirements = requirementsFile(p)
	p.Git = byGit.MatchString(p.text(p.Requirements))
	p.Components = isFile(p.dir, componentsFile)
	p.ignore, err = p.folderIgnore()
	return p, err
}

// install is the shell's way to install what follows: by uv where the base has it, because it is many times as fast.
// gitClient gets git where a dependency needs it and the base has none.
const layoutHelpers = `
{{- define "install" }}if command -v uv >/dev/null; then uv pip install --system --no-cache {{ . }}; \
    else pip install --no-cache-dir {{ . }}; fi{{ end }}
{{- define "git" }}{{ if .Git }}RUN command -v git >/dev/null || { apt-get update && \
    apt-get install -y --no-install-recommends git openssh-client && rm -rf /var/lib/apt/lists/*; }
{{ end }}{{ end -}}
`

func layoutTemplate(text string) *template.Template {
	return template.Must(template.Must(template.New("").Parse(layoutHelpers)).Parse(text))
}

var pythonTemplate = layoutTemplate(`FROM {{ .Base }} AS package
USER root
WORKDIR /airbyte/integration_code
{{ template "git" . }}COPY . .
ARG EXTRA_PREREQS_SCRIPT=""
RUN if [ -n "$EXTRA_PREREQS_SCRIPT" ]; then sh "$EXTRA_PREREQS_SCRIPT"; fi
RUN {{ template "install" "." }}

FROM {{ .Base }}
COPY --from=package /usr/local /usr/local
WORKDIR /airbyte/integration_code
{{- if .Script }}
COPY --chmod=0755 <<EOF /entrypoint.sh
#!/bin/sh
exec {{ .Name }} "\$@"
EOF
ENV AIRBYTE_ENTRYPOINT=/entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
{{- else }}
COPY --from=package /airbyte/integration_code /airbyte/integration_code
ENV AIRBYTE_ENTRYPOINT="python /airbyte/integration_code/main.py"
ENTRYPOINT ["python", "/airbyte/integration_code/main.py"]
{{- end }}
USER airbyte
`)

var javaTemplate = layoutTemplate(`FROM {{ .Base }} AS package
USER root
RUN --mount=type=bind,source={{ .Archive }},target=/tmp/app.tar \
    mkdir /tmp/app && tar xf /tmp/app.tar --strip-components=1 -C /tmp/app

FROM {{ .Base }}
COPY --from=package --chown=airbyte:airbyte /tmp/app /airbyte
WORKDIR /airbyte
ENV APPLICATION={{ .Name }}
ENV AIRBYTE_ENTRYPOINT=/airbyte/base.sh
ENTRYPOINT ["/airbyte/base.sh"]
USER airbyte
`)

var manifestTemplate = layoutTemplate(`FROM {{ .Base }} AS package
USER root
WORKDIR /tmp/requirements
{{ template "git" . }}{{ if eq .Requirements "requirements.txt" }}COPY requirements.txt .
RUN {{ template "install" "-r requirements.txt" }}
{{- else }}COPY . .
RUN if command -v uv >/dev/null; then uv pip install --system --no-cache -r pyproject.toml; \
    else pip install --no-cache-dir .; fi
{{- end }}

FROM {{ .Base }}
COPY --from=package /usr/local /usr/local
COPY . /airbyte/integration_code/
COPY manifest.yaml {{ if .Components }}components.py {{ end }}/airbyte/integration_code/source_declarative_manifest/
`)
