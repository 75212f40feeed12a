package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// placeholder stands in image and source for the connector's image name, so that one value serves many connectors.
const placeholder = "{connector}"

// maxLength is the length of Airbyte's database columns for a definition's name and documentation URL, in characters.
const maxLength = 256

// connectors decides everything about each connector. With immutable, a tag that moves by convention is refused.
func (r *reader) connectors(register, immutable bool) []connector.Connector {
	folders := r.folders()
	r.checkShared(folders)
	resources := r.resources()
	definition := r.definitionID()
	git := r.gitTag(folders)
	recipe := r.recipe()
	var found []connector.Connector
	for _, f := range folders {
		if f.broken {
			continue
		}
		repository, ok := r.repository(f)
		c := connector.Connector{Dir: f.dir, Label: f.label, Metadata: f.metadata, Repository: repository, DefinitionID: definition,
			Type:                 r.connectorType(f, repository),
			DocumentationURL:     r.documentationURL(f),
			Source:               r.source(f, repository),
			Recipe:               recipe,
			ResourceRequirements: f.fields().ResourceRequirements,
		}
		c.Name, c.NameGiven = r.name(f, repository)
		if resources != nil {
			c.ResourceRequirements = resources
		}
		if c.Label == "" {
			c.Label = repository.Base()
		}
		c.Tag = r.tag(f, git, immutable)
		c.ExtraTags = r.extraTags(c.Tag)
		if ok && c.Tag != "" {
			found = append(found, c)
		}
	}
	if !slices.ContainsFunc(folders, func(f folder) bool { return !f.broken }) {
		r.withoutConnectors(immutable)
	}
	r.distinct(found, register)
	r.oneRegistry(found)
	return found
}

// oneRegistry refuses credentials that would go to several registries: a metadata.yaml that names another host must not
// get at the password of this one.
func (r *reader) oneRegistry(connectors []connector.Connector) {
	hosts := map[string]bool{}
	for _, c := range connectors {
		repository, _, _ := strings.Cut(image.Normalise(string(c.Repository)), "/")
		hosts[repository] = true
	}
	if len(hosts) < 2 {
		return
	}
	for _, input := range []string{"registry-username", "registry-password", "registry-token", "registry-client-certificate", "pull-username"} {
		if input == "registry-password" && r.given("registry-username") {
			continue
		}
		if r.given(input) {
			r.reject(fault.ConflictingInputs, input, "the connectors are published to several registries ("+
				strings.Join(slices.Sorted(maps.Keys(hosts)), ", ")+"), and it belongs to one of them",
				"Sign in to each by docker login instead, or publish to one registry at a time.")
		}
	}
}

// withoutConnectors checks, where no connector can be read, at least what the inputs alone say.
func (r *reader) withoutConnectors(immutable bool) {
	var none folder
	if r.given("connector-type") {
		r.enum("connector-type")
	}
	if r.given("image") && !strings.Contains(r.values["image"].text, placeholder) {
		r.repository(none)
	}
	if r.given("tag") {
		r.tag(none, gitTag{}, immutable)
	}
	r.source(none, "")
}

// checkShared refuses an input that can be true of one connector only when there are several.
func (r *reader) checkShared(folders []folder) {
	if len(folders) < 2 {
		return
	}
	for _, input := range []string{"name", "documentation-url", "definition-id"} {
		if r.given(input) {
			r.reject(fault.ConflictingInputs, input, fmt.Sprintf("it can't serve %d connectors", len(folders)),
				"Leave it unset, so that each connector's own counts, or publish one connector at a time.")
		}
	}
	for _, input := range []string{"image", "source"} {
		if v := r.values[input]; r.given(input) && !strings.Contains(v.text, placeholder) {
			r.reject(fault.ConflictingInputs, input, fmt.Sprintf("%s can't serve %d connectors", v, len(folders)),
				"Put "+placeholder+" where each connector's image name belongs, or leave it unset.")
		}
	}
}

// chosen is a value that an input gives, or else a field of metadata.yaml; object names the two in messages.
type chosen struct {
	text, object string
}

func (r *reader) choose(f folder, input, field, fromMetadata string) chosen {
	object := fmt.Sprintf("input %q", input)
	switch {
	case r.given(input):
		return chosen{r.text(input), object}
	case fromMetadata != "":
		return chosen{strings.TrimSpace(fromMetadata), fmt.Sprintf("%s (data.%s of %s)", object, field, f.metadata.File)}
	case f.label != "" && f.label != ".":
		object += " for " + f.label
	}
	return chosen{"", object}
}

func (r *reader) refuse(code fault.Code, c chosen, cause, remedy string) {
	r.fail(&fault.Error{Code: code, Op: "read", Object: c.object, Cause: cause, Remedy: remedy})
}

// rephrase reports the fault of another package's check under the input that it is about.
func (r *reader) rephrase(c chosen, err error) {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		e = &fault.Error{Code: fault.InvalidInput, Cause: fault.Bounded(err.Error())}
	}
	r.refuse(e.Code, c, fmt.Sprintf("%q: %s", fault.Bounded(c.text), e.Cause), e.Remedy)
}

func (r *reader) repository(f folder) (image.Repository, bool) {
	c := r.choose(f, "image", "dockerRepository", f.fields().DockerRepository)
	if c.text == "" {
		r.refuse(fault.MissingInput, c, "neither it nor data.dockerRepository in metadata.yaml is set",
			"Set it to a repository with its registry, such as ghcr.io/acme/source-erp.")
		return "", false
	}
	if strings.Contains(c.text, placeholder) {
		name := f.imageName()
		if name == "" {
			r.refuse(fault.MissingInput, c, "there is no connector's folder whose image name "+placeholder+" could stand for", "Write the name itself.")
			return "", false
		}
		c.text = strings.ReplaceAll(c.text, placeholder, name)
	}
	if strings.ContainsAny(c.text, "{}") {
		r.refuse(fault.BadRepository, c, fmt.Sprintf("%q holds a placeholder that does not exist", fault.Bounded(c.text)),
			"The only one is "+placeholder+", the connector's image name.")
		return "", false
	}
	repository, err := image.ParseRepository(image.LowerGitHub(c.text))
	if err != nil {
		r.rephrase(c, err)
	}
	return repository, err == nil
}

func (r *reader) connectorType(f folder, repository image.Repository) connector.Type {
	if r.given("connector-type") {
		return connector.Type(r.enum("connector-type"))
	}
	if t := f.fields().Type; t != "" {
		return t
	}
	for _, name := range []string{f.name, repository.Base()} {
		for _, t := range []connector.Type{connector.Source, connector.Destination} {
			if strings.HasPrefix(name, string(t)+"-") {
				return t
			}
		}
	}
	r.refuse(fault.MissingInput, r.choose(f, "connector-type", "", ""),
		"neither it nor data.connectorType in metadata.yaml is set, and neither the folder nor the image begins with source- or destination-",
		"Set it to source or destination.")
	return ""
}

func (r *reader) name(f folder, repository image.Repository) (name string, given bool) {
	c := r.choose(f, "name", "name", f.fields().Name)
	if given = c.text != ""; !given {
		c.text = repository.Base()
	}
	if n := utf8.RuneCountInString(c.text); n > maxLength {
		r.refuse(fault.InvalidInput, c, fmt.Sprintf("it has %d characters, Airbyte stores at most %d", n, maxLength), "Shorten it.")
	}
	if strings.ContainsFunc(c.text, unicode.IsControl) && !r.given("name") {
		r.refuse(fault.InvalidInput, c, "it holds a line break or another control character", "Write it in one line.")
	}
	return c.text, given
}

// documentationURL may be empty. Airbyte parses it as a URI, and its error for one that is none is a bare 422.
func (r *reader) documentationURL(f folder) string {
	c := r.choose(f, "documentation-url", "documentationUrl", f.fields().DocumentationURL)
	const remedy = "Give an address such as https://example.com/docs, or none."
	if n := utf8.RuneCountInString(c.text); n > maxLength {
		r.refuse(fault.InvalidInput, c, fmt.Sprintf("it has %d characters, Airbyte stores at most %d", n, maxLength), remedy)
		return c.text
	}
	// What RFC 3986 does not allow anywhere, Go's parser lets pass in a path; Java's does not.
	forbidden := func(char rune) bool {
		return char <= ' ' || char >= 0x7f && char < 0xa0 || strings.ContainsRune(`<>"{}|\^`+"`", char)
	}
	if _, err := url.Parse(c.text); err != nil || strings.ContainsFunc(c.text, forbidden) {
		r.refuse(fault.InvalidInput, c, fmt.Sprintf("%q is not a URI", fault.Bounded(c.text)), remedy)
	}
	return c.text
}

// sourceForms are the prefixes that say what kind of image a source is; internal/build reads what follows.
var sourceForms = []string{"oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "docker://"}

func (r *reader) source(f folder, repository image.Repository) string {
	const input = "source"
	text := r.text(input)
	if text == "" {
		return ""
	}
	for _, form := range sourceForms {
		if rest, ok := strings.CutPrefix(text, form); ok && rest != "" {
			name := f.imageName()
			if name == "" {
				name = repository.Base()
			}
			return strings.ReplaceAll(text, placeholder, name)
		}
	}
	r.reject(fault.InvalidInput, input, r.values[input].String()+" does not say what kind of image it is",
		"Write oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG or docker://REFERENCE.")
	return ""
}

func (r *reader) resources() json.RawMessage {
	const input = "resource-requirements"
	if !r.given(input) {
		return nil
	}
	found, err := connector.ParseResourceRequirements(fmt.Sprintf("input %q", input), []byte(r.values[input].text))
	if err != nil {
		for _, problem := range fault.List(err) {
			r.fail(problem)
		}
	}
	return found
}

func (r *reader) definitionID() string {
	switch ids := r.uuids("definition-id"); len(ids) {
	case 0:
		return ""
	case 1:
		return ids[0]
	}
	r.reject(fault.InvalidInput, "definition-id", r.values["definition-id"].String()+" holds several ids", "Give one.")
	return ""
}

// distinct refuses connectors that would write the same tag of the same repository.
func (r *reader) distinct(connectors []connector.Connector, register bool) {
	owner := map[string]string{}
	repositories, names := map[string]string{}, map[string]string{}
	const remedy = "Give each connector its own: by metadata.yaml, or publish one connector at a time."
	for _, c := range connectors {
		if register {
			key := string(c.Type) + " " + image.Normalise(string(c.Repository))
			if other, taken := repositories[key]; taken && other != c.Tag {
				r.reject(fault.SameImageTwice, "image", fmt.Sprintf("%s and another connector have the repository %s, and so one definition in Airbyte", c.Label, c.Repository), remedy)
			}
			repositories[key] = c.Tag
			key = string(c.Type) + " " + c.Name
			if other, taken := names[key]; taken && other != string(c.Repository) {
				r.reject(fault.ConflictingInputs, "name", fmt.Sprintf("%s and another connector have the name %q", c.Label, fault.Bounded(c.Name)), remedy)
			}
			names[key] = string(c.Repository)
		}
		for _, tag := range append([]string{c.Tag}, c.ExtraTags...) {
			reference := image.Normalise(string(c.Repository)) + ":" + tag
			if other, taken := owner[reference]; taken {
				r.reject(fault.SameImageTwice, "image", fmt.Sprintf("%s and %s would both publish %s:%s", other, c.Label, c.Repository, tag),
					"Give each connector its own repository: by data.dockerRepository in its metadata.yaml, or by an image with "+placeholder+".")
			}
			owner[reference] = c.Label
		}
	}
}
