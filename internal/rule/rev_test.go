package rule

import "github.com/freshet-dev/freshet"

// rev is a revision of epoch 10.
func rev(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: 10, Position: position}
}
