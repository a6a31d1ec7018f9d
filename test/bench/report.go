package main

// report is all that was measured; a part that was not asked for is empty.
type report struct {
	Machine   machineFacts   `json:"machine"`
	Seconds   float64        `json:"seconds"`
	Lives     []lifeFigures  `json:"lives,omitempty"`
	Copies    []copyFigures  `json:"copies,omitempty"`
	Floors    []floorFigures `json:"floors,omitempty"`
	IO        []floorFigures `json:"io,omitempty"`
	Many      []manyFigures  `json:"many,omitempty"`
	Footprint []footprint    `json:"footprint,omitempty"`
	Aims      []aim          `json:"aims"`
}

// lifeFigures are whole lives of volumes: created, published, staged, published on the node, and back.
type lifeFigures struct {
	Place   string `json:"place"`
	Volume  string `json:"volume"`
	Callers int    `json:"callers"`
	// PerSecond is the median of the rounds.
	PerSecond float64            `json:"lives_per_s"`
	Rounds    []float64          `json:"rounds_lives_per_s"`
	Calls     map[string]latency `json:"calls"`
}

// copyFigures are growth, snapshots and what is made from them.
type copyFigures struct {
	Place  string             `json:"place"`
	Volume string             `json:"volume"`
	Calls  map[string]latency `json:"calls"`
}

// floorFigures are what the driver took beside what the same takes by hand, in turns.
type floorFigures struct {
	Name   string  `json:"name"`
	Volume string  `json:"volume"`
	Place  string  `json:"place"`
	Unit   string  `json:"unit"`
	Driver float64 `json:"driver"`
	Hand   float64 `json:"by_hand"`
	// Ratio is the driver's median over the other.
	Ratio float64 `json:"ratio"`
	Parts string  `json:"by_hand_is"`
}

// manyFigures are calls where that many volumes exist.
type manyFigures struct {
	Place    string             `json:"place"`
	Volume   string             `json:"volume"`
	Existing int                `json:"existing"`
	Calls    map[string]latency `json:"calls"`
	StartMs  float64            `json:"start_ms"`
}

// footprint is the driver's memory a while after its start, with nothing to do.
type footprint struct {
	Existing int    `json:"existing"`
	Volume   string `json:"volume"`
	// After is what the driver did before it had nothing to do: "start" or "work".
	After   string  `json:"after"`
	AnonMiB float64 `json:"rss_anon_mib"`
	RSSMiB  float64 `json:"rss_mib"`
}

// aim is what was wanted, beside what is.
type aim struct {
	Name     string  `json:"name"`
	Measured float64 `json:"measured"`
	// Most or Least is the aim; the other is 0.
	Most  float64 `json:"most,omitempty"`
	Least float64 `json:"least,omitempty"`
	Unit  string  `json:"unit,omitempty"`
	Met   bool    `json:"met"`
}

func atMost(name string, measured, most float64, unit string) aim {
	return aim{Name: name, Measured: measured, Most: most, Unit: unit, Met: measured <= most}
}

func atLeast(name string, measured, least float64, unit string) aim {
	return aim{Name: name, Measured: measured, Least: least, Unit: unit, Met: measured >= least}
}
