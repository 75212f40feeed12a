package build

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/auth/authprovider"
	"golang.org/x/crypto/nacl/sign"
	"google.golang.org/grpc"
)

// authority lends an engine the credentials for registries, host by host. For registries with a token server it gets
// tokens only, which are fetched from here.
type authority struct {
	auth.AuthServer
	// seed makes this program known to the engine as the one that a token was fetched for. BuildKit's own keeps it in a
	// file in the docker configuration, so that tokens outlive a run.
	seed []byte
}

// Register implements session.Attachable.
func (a *authority) Register(server *grpc.Server) { auth.RegisterAuthServer(server, a) }

func (a *authority) key(host string, salt []byte) ed25519.PrivateKey {
	mac := hmac.New(sha256.New, a.seed)
	_, _ = fmt.Fprintf(mac, "%d:%s%s", len(host), host, salt)
	return ed25519.NewKeyFromSeed(mac.Sum(nil))
}

// GetTokenAuthority implements auth.AuthServer.
func (a *authority) GetTokenAuthority(
	_ context.Context, r *auth.GetTokenAuthorityRequest,
) (*auth.GetTokenAuthorityResponse, error) {
	return &auth.GetTokenAuthorityResponse{PublicKey: a.key(r.Host, r.Salt)[32:]}, nil
}

// VerifyTokenAuthority implements auth.AuthServer.
func (a *authority) VerifyTokenAuthority(
	_ context.Context, r *auth.VerifyTokenAuthorityRequest,
) (*auth.VerifyTokenAuthorityResponse, error) {
	return &auth.VerifyTokenAuthorityResponse{Signed: sign.Sign(nil, r.Payload, (*[64]byte)(a.key(r.Host, r.Salt)))}, nil
}

func (b *Builder) authority() (*authority, error) {
	config := authprovider.DockerAuthProviderConfig{AuthConfigProvider: b.lent}
	server, ok := authprovider.NewDockerAuthProvider(config).(auth.AuthServer)
	if !ok {
		return nil, errors.New("BuildKit's provider of credentials is not what it was")
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	return &authority{AuthServer: server, seed: seed}, nil
}

// lent is what an engine is told for a host. It is asked for each time, several times a build: whoever looks it up keeps
// what is still good, and knows when that ends, which a cache here would not.
func (b *Builder) lent(ctx context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
	if b.options.Credentials == nil {
		return types.AuthConfig{}, nil
	}
	if host == authprovider.DockerHubRegistryHost {
		host = name.DefaultRegistry
	}
	a, err := b.options.Credentials(ctx, host)
	if err != nil {
		return types.AuthConfig{}, err
	}
	return types.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
}
