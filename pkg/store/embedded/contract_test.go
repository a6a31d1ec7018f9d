package embedded_test

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/storetest"
)

func TestContractOfAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store { return opened(t, config(newPath(t))).Store() })
}
