package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errEnded is that of awaitReady when what it waits for will never be.
var errEnded = errors.New("the server ended")

// awaitReady asks a server, or what is in front of some, until it is ready; ended, if it
// isn't nil, is closed when it can't be any more.
func awaitReady(ctx context.Context, url string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err == nil {
			_ = resp.Body.Close() // its status is all that counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return err
		}
	}
}
