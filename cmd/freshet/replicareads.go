package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// replicaReads counts what replicas have served nodes, over all runs of each: a metric
// begins anew with its process. What a run served after it was asked last is missing.
type replicaReads struct {
	mu sync.Mutex // guards of
	of map[*process]int
}

// ask asks a node that runs. It may be a run that ends meanwhile.
func (r *replicaReads) ask(ctx context.Context, n *ownNode) error {
	p := n.run()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	served, err := counter(ctx, p.admin+"/metrics", "freshet_replica_reads_total")
	if err != nil {
		return fmt.Errorf("%smetrics: %w", n.name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[*process]int{}
	}
	r.of[p] = served
	return nil
}

// sum asks all nodes, and returns how many there have been. The error says who didn't
// answer.
func (r *replicaReads) sum(ctx context.Context, nodes []*ownNode) (n int, err error) {
	for _, node := range nodes {
		err = errors.Join(err, r.ask(ctx, node))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, served := range r.of {
		n += served
	}
	return n, err
}

// counter is a counter at an address of metrics, whatever its labels.
func counter(ctx context.Context, url, name string) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return 0, err
	}
	for _, m := range all[name].GetMetric() {
		n += int(m.GetCounter().GetValue())
	}
	return n, nil
}
