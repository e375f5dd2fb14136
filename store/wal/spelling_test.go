package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// typed are the types of which Postgres reads several texts, and writes one.
var typed = map[string][]string{
	"smallint": {"0", "-0", "+0", "7", "007", "-7", "-007", "+7", " 7", "7 ", "32767", "32768", "-32768", "-32769", "0x1F", "1_000", "", "-", "x", "7.0", "1e3"},
	"integer":  {"0", "42", "2147483647", "2147483648", "-2147483648", "-2147483649", "000", "\t42\n", "4 2", "0b1", "0o7", "--1", "+-1"},
	"bigint":   {"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "10", "010", "99999999999999999999999"},
	"boolean": {
		"true", "false", "TRUE", "False", "t", "f", "tr", "tru", "fals", "yes", "no", "y", "n", "ye", "on", "off", "of", "o", "1", "0", " true ", "T", "2", "", "truex", "oN",
	},
	"uuid": {
		"01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77", "01928C7E-8F3A-7CC1-9B5E-2F6D1C0A4B77", "{01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77}", "01928c7e8f3a7cc19b5e2f6d1c0a4b77",
		"0192-8c7e-8f3a-7cc1-9b5e-2f6d-1c0a-4b77", "01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b7", "01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77 ", "{01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77",
		"01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77}", "-01928c7e8f3a7cc19b5e2f6d1c0a4b77", "01928c7e8f3a7cc19b5e2f6d1c0a4b77-", "01928c7e--8f3a7cc19b5e2f6d1c0a4b77",
		"00000000-0000-0000-0000-000000000000", "01928c7e_8f3a_7cc1_9b5e_2f6d1c0a4b77", "0x928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77", "",
	},
	"date": {
		"2026-11-27", "2026-1-5", "2026-01-05", " 2026-01-05 ", "20260105", "2026/01/05", "2026.01.05", "January 5, 2026", "2026-Jan-05", "5874897-12-31", "5874898-01-01",
		"10000-01-01", "010000-01-01", "12026-1-5", "0044-03-15 BC", "44-03-15 BC", "0044-03-15 bc", "0044-3-15 BC", "4714-11-24 BC", "4714-11-23 BC", "4713-01-01 BC", "4715-01-01 BC",
		"0001-01-01", "0001-12-31 BC", "0000-01-01", "0001-02-29 BC", "0002-02-29 BC", "0005-02-29 BC", "0101-02-29 BC", "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29",
		"2026-13-01", "2026-00-01", "2026-01-00", "2026-04-31", "infinity", "-infinity", "INFINITY", "-Infinity", "+infinity", " infinity", "epoch", "today", "now", "2026-001",
		"2026-01-05 12:00", "2026-01-05T00:00:00Z", "2026-01-05 AD", "1-1-1", "J2451187", "99999999-01-01", "2026-01-05-", "-2026-01-05", "2026- 1-05", "",
	},
}

// mangled is a text that is like another one.
func mangled(random *rand.Rand, text string) string {
	b := []rune(text)
	for range random.IntN(3) {
		const some = "0123456789abcdefABCDEF-+ {}.tTfFyBC/_x"
		c, at := rune(some[random.IntN(len(some))]), random.IntN(len(b)+1)
		switch random.IntN(6) {
		case 0:
			b = append(b[:at:at], append([]rune{c}, b[at:]...)...)
		case 1:
			if at < len(b) {
				b[at] = c
			}
		case 2:
			if at < len(b) {
				b = append(b[:at:at], b[at+1:]...)
			}
		case 3:
			b = []rune(strings.ToUpper(string(b)))
		case 4:
			b = append([]rune{'0'}, b...)
		case 5:
			b = []rune(strings.ReplaceAll(string(b), "-", ""))
		}
	}
	return string(b)
}

// random is a value of the type as Postgres writes it, as an expression.
var randomOf = map[string]string{
	"smallint": "(random() * 65535 - 32768)::int2", "integer": "(random() * 4e9 - 2e9)::int4", "bigint": "(random() * 1.8e19 - 9e18)::int8", "boolean": "random() < 0.5",
	"uuid": "gen_random_uuid()", "date": "case when random() < 0.5 then date '1900-01-01' + (random() * 80000)::int else date '4714-11-24 BC' + (random() * 2e9)::int end",
}

// What Postgres writes is a topic's text, and nothing else: of all texts that it reads
// as a value, or doesn't, just those that it writes pass, and where an error says how it
// would write one, it is so. So it is of domains over these.
func TestSpelling_isWhatPostgresWrites(t *testing.T) {
	var domains, columns, templates []string
	for name := range typed {
		domains = append(domains, fmt.Sprintf("create domain below_%[1]s as %[1]s; create domain known_%[1]s as below_%[1]s;", name))
		columns = append(columns, name+" "+name, fmt.Sprintf("known_%[1]s known_%[1]s", name)) //nolint:dupword // a name and a type
		templates = append(templates, fmt.Sprintf("%[1]s/{%[1]s}", name), fmt.Sprintf("known/%[1]s/{known_%[1]s}", name))
	}
	program := testkit.Contract(t, testkit.Source{Table: "typed", Topics: templates})
	url := withColumns(t, program, strings.Join(domains, "\n")+`
create table typed (`+strings.Join(columns, ", ")+`);
alter table typed replica identity full;
create function reads(type text, value text) returns text language plpgsql as $$
declare written text;
begin
  execute format('select %L::%s::text', value, type) into written;
  return written;
exception when others then
  return null;
end $$`)
	spelling := start(t, url, with(program)).live(t).Spelling()
	conn := testkit.Conn(t, url)
	_, err := conn.Exec(t.Context(), `set datestyle = 'ISO'`)
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
	for name, texts := range typed {
		var values []string
		require.NoError(t, conn.QueryRow(t.Context(), `select array_agg((`+randomOf[name]+`)::text) from generate_series(1, 200)`).Scan(&values))
		for _, value := range values {
			texts = append(texts, value, mangled(random, value), mangled(random, value))
		}
		for _, text := range texts[:len(typed[name])] {
			texts = append(texts, mangled(random, text), mangled(random, text))
		}
		var outputs []*string
		require.NoError(t, conn.QueryRow(t.Context(), `select array_agg(reads($1, x) order by i) from unnest($2::text[]) with ordinality s (x, i)`, name, texts).Scan(&outputs))
		wrote := 0
		for i, text := range texts {
			written := outputs[i] != nil && *outputs[i] == text
			for _, topic := range []string{name + "/" + contract.Escape(text), "known/" + name + "/" + contract.Escape(text)} {
				err := spelling.Check(topic)
				if written {
					require.NoError(t, err, "%s %q", name, text)
					continue
				}
				var known *contract.SpellingError
				require.ErrorAs(t, err, &known, "%s %q", name, text)
				if known.Written != "" {
					require.NotNil(t, outputs[i], "%s %q", name, text)
					require.Equal(t, *outputs[i], known.Written, "%s %q", name, text)
					wrote++
				}
			}
		}
		require.Greater(t, wrote, 6, "%s: how a value is written is said of what people write", name)
	}
}

// A column that gets another type is known by it before the topics of its table are
// told, so that whoever reads again for that is refused.
func TestSpelling_ofAnotherType(t *testing.T) {
	t.Parallel()
	program := testkit.Contract(t, testkit.Source{Table: "tasks", Topics: []string{"tasks/{id}"}})
	const other = "tasks/01928C7E-8F3A-7CC1-9B5E-2F6D1C0A4B77"
	url := withColumns(t, program, `create table tasks (id text primary key)`)
	feed := start(t, url, with(program)).live(t)
	require.NoError(t, feed.Spelling().Check(other))
	for _, c := range []struct {
		ddl  string
		fits bool
	}{
		{`alter table tasks alter id type uuid using id::uuid`, false},
		{`create domain task_id as uuid; alter table tasks alter id type task_id`, false},
		{`create type word as enum ('a'); alter table tasks alter id type word using 'a'`, true},
		{`alter table tasks alter id type uuid using gen_random_uuid()`, false},
		{`alter table tasks drop id, add id text primary key`, true},
	} {
		feed.forget()
		before := feed.caughtUp(t)
		testkit.Exec(t, url, `begin; alter publication freshet drop table tasks; `+c.ddl+`; alter publication freshet add table tasks; commit`)
		feed.await(t, "all topics of the table after "+c.ddl, func() bool {
			for _, commit := range feed.all() {
				if before.Less(commit.Revision) && len(commit.Floors) > 0 {
					return true
				}
			}
			return false
		})
		feed.awaitNoQuarantine(t)
		require.Equal(t, c.fits, feed.Spelling().Check(other) == nil, c.ddl)
	}
}

// A feed that others tell looks by itself, at the start and now and then.
func TestSpelling_following(t *testing.T) {
	t.Parallel()
	program := testkit.Contract(t, testkit.Source{Table: "tasks", Topics: []string{"tasks/{id}"}})
	url := withColumns(t, program, `create table tasks (id int primary key)`)
	to := newSink()
	feed, err := wal.New(wal.Config{URL: url, Program: program, Sink: to, WatchInterval: time.Second})
	require.NoError(t, err)
	require.NoError(t, feed.Spelling().Check("tasks/007"), "nothing is known yet")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed.Follow(ctx)
		feed.Stop()
	}()
	defer func() {
		cancel()
		<-done
	}()
	refuses := func() bool {
		var known *contract.SpellingError
		return errors.As(feed.Spelling().Check("tasks/007"), &known)
	}
	require.Eventually(t, refuses, time.Minute, time.Millisecond)
	testkit.Exec(t, url, `begin; alter publication freshet drop table tasks; alter table tasks alter id type text; alter publication freshet add table tasks; commit`)
	require.Eventually(t, func() bool { return !refuses() }, time.Minute, time.Millisecond)
}
