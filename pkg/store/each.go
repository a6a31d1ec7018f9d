package store

import "context"

// Each calls handle for every event of a table, or of one record where name is not empty, until ctx ends or the
// watch fails, and returns why. See Table.Watch for what is told.
func Each[T any](ctx context.Context, t Table[T], name string, handle func(Event[T])) error {
	watch, err := t.Watch(ctx, name)
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		event, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		handle(event)
	}
}
