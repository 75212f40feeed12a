package fault

// Code is a failure's stable name. Its page is docs/errors/<code>.md.
type Code string

// The codes. AP1xx are the inputs, AP2xx the image contract, AP3xx the registry, AP4xx the build, AP5xx Airbyte,
// AP6xx the pulling side, AP9xx the program itself.
const (
	UnknownInput      Code = "AP101"
	InvalidInput      Code = "AP102"
	MissingInput      Code = "AP103"
	ConflictingInputs Code = "AP104"
	BadMetadata       Code = "AP105"
	NoConnector       Code = "AP106"
	NoTag             Code = "AP107"
	TagsDisagree      Code = "AP108"
	MutableTag        Code = "AP109"
	BadRepository     Code = "AP110"
	BadTag            Code = "AP111"
	UnreadableFile    Code = "AP112"
	SameImageTwice    Code = "AP113"
	PlainCredentials  Code = "AP114"
	NothingGiven      Code = "AP127"

	NoGit        Code = "AP120"
	NoSuchCommit Code = "AP121"
	ShallowClone Code = "AP122"

	NoEntrypoint          Code = "AP201"
	RelativeEntrypoint    Code = "AP202"
	DifferentEntrypoint   Code = "AP203"
	NoAMD64               Code = "AP204"
	LayerCompression      Code = "AP205"
	LabelsDisagree        Code = "AP206"
	CredentialFile        Code = "AP207"
	WrongConfigPlatform   Code = "AP208"
	BadEntrypoint         Code = "AP209"
	SpecFailed            Code = "AP210"
	SpecTimeout           Code = "AP211"
	NoSpec                Code = "AP212"
	SpecTrace             Code = "AP213"
	BadSpec               Code = "AP214"
	ProtocolVersion       Code = "AP215"
	InjectedManifest      Code = "AP216"
	NoSyncModes           Code = "AP217"
	NoDocumentationURL    Code = "AP218"
	SpecNotRun            Code = "AP219"
	BadImage              Code = "AP220"
	BadManifestYAML       Code = "AP221"
	NoShell               Code = "AP222"
	SpecOutputTooLarge    Code = "AP223"
	SecretNotMarkedSecret Code = "AP224"

	RegistryUnreachable Code = "AP301"
	RegistryTLS         Code = "AP302"
	NoCredentials       Code = "AP303"
	CredentialsRefused  Code = "AP304"
	PushDenied          Code = "AP305"
	RepositoryMissing   Code = "AP306"
	RateLimited         Code = "AP307"
	TagExists           Code = "AP308"
	TagImmutable        Code = "AP309"
	PushFailed          Code = "AP310"
	ReadBackDiffers     Code = "AP311"
	PlainHTTPRefused    Code = "AP312"
	ImageRefused        Code = "AP313"
	BodyTooLarge        Code = "AP315"
	CredentialHelper    Code = "AP316"
	TokenServer         Code = "AP317"

	NoIDToken            Code = "AP318"
	OIDCRefused          Code = "AP319"
	CloudSignIn          Code = "AP320"
	CloudDenied          Code = "AP321"
	RepositoryNotCreated Code = "AP322"
	ClockWrong           Code = "AP323"
	PullDenied           Code = "AP324"

	NoBuilder         Code = "AP401"
	BaseImage         Code = "AP402"
	AssemblyFailed    Code = "AP403"
	EngineUnreachable Code = "AP404"
	SourceImage       Code = "AP405"
	EngineLacks       Code = "AP406"
	PlainBuilder      Code = "AP407"
	DockerfileLint    Code = "AP410"
	BadDockerfile     Code = "AP411"
	BuildFailed       Code = "AP412"
	BaseMoved         Code = "AP413"
	LayoutIncomplete  Code = "AP414"
	CacheFailed       Code = "AP415"
	ScannerFailed     Code = "AP416"

	AirbyteUnreachable   Code = "AP501"
	AirbyteTLS           Code = "AP502"
	AirbyteSignIn        Code = "AP503"
	AirbyteForbidden     Code = "AP504"
	NotAirbyte           Code = "AP505"
	AirbyteCloud         Code = "AP506"
	BrokenVersion        Code = "AP507"
	WorkspaceChoice      Code = "AP508"
	AmbiguousDefinition  Code = "AP509"
	RepositoryImmutable  Code = "AP510"
	DefinitionNotFound   Code = "AP511"
	ServerSpecFailed     Code = "AP512"
	AirGapped            Code = "AP513"
	CreateUnknown        Code = "AP514"
	TwinDefinitions      Code = "AP515"
	DefinitionDiffers    Code = "AP516"
	StoredSpecDiffers    Code = "AP517"
	AirbyteRefused       Code = "AP518"
	AirbyteFailed        Code = "AP519"
	ProtocolNotSupported Code = "AP520"
	DocumentationKept    Code = "AP521"

	ShortLivedCredentials Code = "AP601"
	ClusterUnreachable    Code = "AP602"
	ClusterDenied         Code = "AP603"
	NoInstallation        Code = "AP604"
	FieldConflict         Code = "AP605"
	BadPullSecret         Code = "AP606"
	DeploymentDenied      Code = "AP607"
	PullNotFound          Code = "AP608"
	PullUnreachable       Code = "AP609"
	PullTLS               Code = "AP610"
	PullRateLimited       Code = "AP611"
	WrongArchitecture     Code = "AP612"
	ContainerNotStarted   Code = "AP613"
	Unschedulable         Code = "AP614"
	ClusterSpecFailed     Code = "AP615"
	PulledAnother         Code = "AP616"
	ClusterFailed         Code = "AP617"
	PullFailed            Code = "AP618"
	DeploymentIll         Code = "AP619"

	HostUnreachable    Code = "AP620"
	HostPullDenied     Code = "AP621"
	HostPullFailed     Code = "AP622"
	HostOwnCredentials Code = "AP623"
	HostTagDiffers     Code = "AP624"
	HostPlatform       Code = "AP625"
	HostSpecNotRun     Code = "AP626"
	HostNeedsPull      Code = "AP627"
	LoadFailed         Code = "AP628"
	NoKindNode         Code = "AP629"

	Internal      Code = "AP901"
	Interrupted   Code = "AP902"
	OutputsFailed Code = "AP903"
)

// Page is the address of the code's page.
func (c Code) Page() string {
	return "https://github.com/airbyte-publish/airbyte-publish/blob/main/docs/errors/" + string(c) + ".md"
}

// Titles says of each code, in a few words, what it means. A test holds it against the pages in docs/errors.
var Titles = map[Code]string{
	UnknownInput:      "unknown input",
	InvalidInput:      "an input's value is not valid",
	MissingInput:      "a required input is missing",
	ConflictingInputs: "inputs contradict each other",
	BadMetadata:       "metadata.yaml can't be read",
	NoConnector:       "no connector at this path",
	NoTag:             "no tag could be derived",
	TagsDisagree:      "the git tag and metadata.yaml disagree",
	MutableTag:        "a mutable tag can't be registered",
	BadRepository:     "the image repository is not legal",
	BadTag:            "the image tag is not legal",
	UnreadableFile:    "a file named by an input can't be read",
	SameImageTwice:    "two connectors would publish the same image",
	PlainCredentials:  "credentials would go over plain http",
	NothingGiven:      "nothing to publish was named",

	NoGit:        "git can't be asked what changed",
	NoSuchCommit: "changed-since names no commit to compare with",
	ShallowClone: "the clone is too shallow for changed-since",

	NoEntrypoint:          "AIRBYTE_ENTRYPOINT is not set",
	RelativeEntrypoint:    "AIRBYTE_ENTRYPOINT is not absolute",
	DifferentEntrypoint:   "AIRBYTE_ENTRYPOINT and ENTRYPOINT differ",
	NoAMD64:               "the image has no linux/amd64",
	LayerCompression:      "a layer is compressed in a way older engines can't read",
	LabelsDisagree:        "the io.airbyte labels disagree with what is published",
	CredentialFile:        "a credential file lies in the connector's folder",
	WrongConfigPlatform:   "the image's index and config name different platforms",
	BadEntrypoint:         "AIRBYTE_ENTRYPOINT is not one command",
	SpecFailed:            "the connector's spec crashed",
	SpecTimeout:           "the connector's spec took too long",
	NoSpec:                "the connector printed no SPEC message",
	SpecTrace:             "the connector reported an error",
	BadSpec:               "the connector's specification is not valid",
	ProtocolVersion:       "the protocol version is not supported",
	InjectedManifest:      "the image does not contain its manifest.yaml",
	NoSyncModes:           "the destination names no sync modes",
	NoDocumentationURL:    "the destination's spec has no documentationUrl",
	SpecNotRun:            "spec could not be run on this machine",
	BadImage:              "the image can't be read",
	BadManifestYAML:       "manifest.yaml is not valid",
	NoShell:               "the image has no /bin/sh",
	SpecOutputTooLarge:    "the connector printed too much",
	SecretNotMarkedSecret: "a secret-like property is not marked as secret",

	RegistryUnreachable: "the registry can't be reached",
	RegistryTLS:         "no trusted TLS connection to the registry",
	NoCredentials:       "no credentials for the registry",
	CredentialsRefused:  "the registry refused the credentials",
	PushDenied:          "no right to push",
	RepositoryMissing:   "the repository does not exist",
	RateLimited:         "the registry limits the rate",
	TagExists:           "the tag holds another image",
	TagImmutable:        "the registry forbids moving the tag",
	PushFailed:          "the push failed",
	ReadBackDiffers:     "the registry holds something else than was pushed",
	PlainHTTPRefused:    "plain http was not asked for",
	ImageRefused:        "the registry refused the image",
	BodyTooLarge:        "something in front of the registry limits upload size",
	CredentialHelper:    "a docker credential helper failed",
	TokenServer:         "the registry's token server can't be used",

	NoIDToken:            "no OIDC token can be had",
	OIDCRefused:          "the OIDC token was refused",
	CloudSignIn:          "signing in to the registry's cloud failed",
	CloudDenied:          "the cloud identity may not sign in to the registry",
	RepositoryNotCreated: "the repository could not be created",
	ClockWrong:           "this machine's clock is wrong",
	PullDenied:           "the deployment's credentials can't pull the image",

	NoBuilder:         "nothing here can build this folder",
	BaseImage:         "the base image can't be used",
	AssemblyFailed:    "the image could not be assembled",
	EngineUnreachable: "the engine can't be reached",
	SourceImage:       "the source image can't be read",
	EngineLacks:       "the build engine can't do this",
	PlainBuilder:      "the connection to the build engine is not encrypted",
	DockerfileLint:    "the Dockerfile can be improved",
	BadDockerfile:     "the Dockerfile can't be read",
	BuildFailed:       "the build failed",
	BaseMoved:         "the base image has moved",
	LayoutIncomplete:  "the folder lacks what its build needs",
	CacheFailed:       "the build cache can't be used",
	ScannerFailed:     "the bill of materials could not be made",

	AirbyteUnreachable:   "Airbyte can't be reached",
	AirbyteTLS:           "no trusted TLS connection to Airbyte",
	AirbyteSignIn:        "Airbyte refused the credentials",
	AirbyteForbidden:     "Airbyte denies the right",
	NotAirbyte:           "the URL does not answer like Airbyte",
	AirbyteCloud:         "Airbyte Cloud takes no Docker-based connectors",
	BrokenVersion:        "this Airbyte version can't do it",
	WorkspaceChoice:      "the workspace must be chosen",
	AmbiguousDefinition:  "several definitions match",
	RepositoryImmutable:  "a definition's repository can't be changed",
	DefinitionNotFound:   "the definition does not exist",
	ServerSpecFailed:     "Airbyte could not run the image's spec",
	AirGapped:            "Airbyte could not ask its connector registry",
	CreateUnknown:        "the outcome of a create is unknown",
	TwinDefinitions:      "the same connector was created twice at once",
	DefinitionDiffers:    "Airbyte stored something else",
	StoredSpecDiffers:    "Airbyte stores another spec than the image has",
	AirbyteRefused:       "Airbyte refused the request",
	AirbyteFailed:        "Airbyte failed",
	ProtocolNotSupported: "Airbyte does not support the connector's protocol version",
	DocumentationKept:    "Airbyte keeps a definition's documentation URL",

	ShortLivedCredentials: "the pull credentials do not last",
	ClusterUnreachable:    "the Kubernetes cluster can't be reached",
	ClusterDenied:         "Kubernetes denies the right",
	NoInstallation:        "no Airbyte found in the cluster",
	FieldConflict:         "somebody else manages this",
	BadPullSecret:         "the pull secret can't be used",
	DeploymentDenied:      "the deployment may not pull the image",
	PullNotFound:          "the deployment does not find the image",
	PullUnreachable:       "the nodes can't reach the registry",
	PullTLS:               "the nodes don't trust the registry",
	PullRateLimited:       "the registry limits the nodes' pulls",
	WrongArchitecture:     "the image does not fit the nodes",
	ContainerNotStarted:   "the container could not be started",
	Unschedulable:         "no node takes the pod",
	ClusterSpecFailed:     "spec failed in the deployment",
	PulledAnother:         "the deployment pulled another image",
	ClusterFailed:         "Kubernetes refused or failed",
	PullFailed:            "the pull failed",
	DeploymentIll:         "something is wrong with the set-up",

	HostUnreachable:    "the Docker host can't be reached",
	HostPullDenied:     "the Docker host may not pull the image",
	HostPullFailed:     "the Docker host can't pull the image",
	HostOwnCredentials: "the Docker host's own credentials can't be used",
	HostTagDiffers:     "the Docker host holds another image under the tag",
	HostPlatform:       "the image is not for the Docker host's platform",
	HostSpecNotRun:     "the Docker host can't start the image",
	HostNeedsPull:      "each tag has to be pulled on the Docker host",
	LoadFailed:         "the image could not be loaded",
	NoKindNode:         "there is no such kind cluster",

	Internal:      "internal error",
	Interrupted:   "interrupted",
	OutputsFailed: "the outputs could not be written",
}
