package conformance_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// asAdapter in the environment makes this program the adapter of the Go client.
const asAdapter = "CONFORMANCE_GO_ADAPTER"

func TestMain(m *testing.M) {
	if os.Getenv(asAdapter) != "" {
		if err := runGoAdapter(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.Main(m)
}
