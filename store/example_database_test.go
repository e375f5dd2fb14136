package store_test

import "github.com/freshet-dev/freshet/internal/testkit"

// exampleDatabase makes a database for an Example.
func exampleDatabase() (url string, done func()) {
	t, done := testkit.Example()
	return testkit.Template(t, "migrated", prepare), done
}
