package relay_test

import (
	"testing"

	"github.com/freshet-dev/freshet/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
