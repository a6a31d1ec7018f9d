package embedded

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/internal/record"
)

const (
	// sumBytes stand before the JSON of a stored record.
	sumBytes = 4
	// maxRecordBytes bounds a record's JSON, somewhat below what etcd takes (1.5 MiB), so that what is
	// stored here can be stored there.
	maxRecordBytes = 1 << 20
)

// encode returns a record as it is stored.
func encode[T any](record *T) ([]byte, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fault.As(fault.Invalid, err)
	}
	if len(text) > maxRecordBytes {
		return nil, fault.New(fault.Invalid, "the record has %d bytes as JSON, more than the %d that a store takes", len(text), maxRecordBytes)
	}
	value := make([]byte, 0, sumBytes+len(text))
	value = binary.BigEndian.AppendUint32(value, sum(text))
	return append(value, text...), nil
}

// decode is the inverse of encode; name is the key that the value stood under.
func decode[T any, P store.Record[T]](name string, value []byte) (*T, error) {
	text, err := checked(value)
	if err != nil {
		return nil, err
	}
	r := new(T)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fault.As(fault.DataLoss, err)
	}
	if got := P(r).GetName(); got != name {
		return nil, fault.New(fault.DataLoss, "the record says that its name is %q", got)
	}
	record.Finish(r)
	return r, nil
}

// checked returns the JSON of a stored value whose sum is right.
func checked(value []byte) ([]byte, error) {
	if len(value) < sumBytes {
		return nil, fault.New(fault.DataLoss, "%d bytes are no record", len(value))
	}
	text := value[sumBytes:]
	if want, got := binary.BigEndian.Uint32(value), sum(text); want != got {
		return nil, fault.New(fault.DataLoss, "its check sum is %08x, not %08x as stored", got, want)
	}
	return text, nil
}

func sum(text []byte) uint32 {
	return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))
}
