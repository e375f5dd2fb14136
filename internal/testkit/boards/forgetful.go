package boards

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// Forgetful is the service's contract without the topics of reactions.
func Forgetful(t testing.TB) protoreflect.ServiceDescriptor {
	t.Helper()
	return testkit.Declared(t, Service(), func(_ string, reads *freshetv1.Reads) {
		reads.ResponseTopics = reads.GetResponseTopics()[:1]
	})
}
