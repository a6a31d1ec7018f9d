module github.com/datastore-csi/datastore-csi

go 1.26.0
