package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"time"
)

// document is a bill of materials as SPDX 2.3 has it, as far as it is used.
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []material     `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type material struct {
	SPDXID           string     `json:"SPDXID"`
	Name             string     `json:"name"`
	VersionInfo      string     `json:"versionInfo"`
	PackageFileName  string     `json:"packageFileName,omitempty"`
	DownloadLocation string     `json:"downloadLocation"`
	FilesAnalyzed    bool       `json:"filesAnalyzed"`
	Checksums        []checksum `json:"checksums,omitempty"`
	LicenseConcluded string     `json:"licenseConcluded"`
	LicenseDeclared  string     `json:"licenseDeclared"`
	CopyrightText    string     `json:"copyrightText"`
	// Comment has Go's own sum of the module, which SPDX knows no name for.
	Comment      string      `json:"comment,omitempty"`
	ExternalRefs []reference `json:"externalRefs"`
	Purpose      string      `json:"primaryPackagePurpose"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	unknown = "NOASSERTION"
	program = "SPDXRef-airbyte-publish"
)

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// writeMaterials writes the bill of materials of a binary, out of what the toolchain wrote into the binary itself.
func writeMaterials(s settings, t target) error {
	file := filepath.Join(s.dir, t.binary())
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	sum, err := sumOf(file)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(materials(info, s.version, t.binary(), sum, s.time), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, t.materials()), append(text, '\n'), 0o644)
}

func materials(info *buildinfo.BuildInfo, version, binary, sum string, at time.Time) document {
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: binary + " " + version,
		DocumentNamespace: "https://" + module + "/releases/download/" + version + "/" + binary + ".spdx",
		CreationInfo:      creation{at.Format(time.RFC3339), []string{"Organization: airbyte-publish", "Tool: airbyte-publish-release"}},
	}
	own := golang(program, module, version)
	own.PackageFileName, own.Checksums, own.Purpose = binary, []checksum{{"SHA256", sum}}, "APPLICATION"
	own.LicenseDeclared = "Apache-2.0"
	d.Packages = append(d.Packages, own)
	d.Relationships = append(d.Relationships, relationship{d.SPDXID, "DESCRIBES", program})
	depends := func(p material) {
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, relationship{program, "DEPENDS_ON", p.SPDXID})
	}
	depends(golang("SPDXRef-go-stdlib", "stdlib", info.GoVersion))
	for _, m := range modules(info) {
		p := golang("SPDXRef-"+notInID.ReplaceAllString(m.Path+"-"+m.Version, "-"), m.Path, m.Version)
		p.Comment = m.Sum
		depends(p)
	}
	return d
}

// modules are what the binary is made of beside itself, replacements in the place of what they replace.
func modules(info *buildinfo.BuildInfo) []*debug.Module {
	var all []*debug.Module
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *debug.Module) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

func golang(id, path, version string) material {
	return material{SPDXID: id, Name: path, VersionInfo: version, DownloadLocation: unknown, LicenseConcluded: unknown, LicenseDeclared: unknown,
		CopyrightText: unknown, Purpose: "LIBRARY",
		ExternalRefs: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}}}
}
