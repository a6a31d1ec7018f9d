package storm

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// A model that explains everything finds nothing: these answers it must not explain.
func TestTheModelRefusesWhatADriverMustNotAnswer(t *testing.T) {
	up := world{phase: ready, size: mib, attached: readWrite, staged: readWrite, target: true}
	there := world{phase: ready, size: mib}
	for name, c := range map[string]struct {
		move move
		in   world
		code codes.Code
	}{
		"deleting what is in use":          {remove(), up, codes.OK},
		"not deleting what nobody uses":    {remove(), there, codes.FailedPrecondition},
		"publishing what isn't staged":     {publish(), there, codes.OK},
		"staging what isn't attached":      {stage(true), there, codes.OK},
		"attaching what isn't there":       {attach(readWrite), world{phase: absent}, codes.OK},
		"attaching otherwise":              {attach(readOnly), up, codes.OK},
		"unstaging under a pod":            {unstage(), up, codes.OK},
		"losing a volume":                  {look("validate"), there, codes.NotFound},
		"another volume of the same name":  {createOther(), there, codes.OK},
		"a volume where there is no room":  {create(nil, "", codes.ResourceExhausted), world{phase: absent}, codes.OK},
		"refusing what is alone as busy":   {expand(2*mib, rows.Can{}), there, codes.Aborted},
		"failing for a reason of its own":  {publish(), up, codes.Internal},
		"staging without an attachment":    {stage(false), world{phase: ready, attached: readWrite}, codes.OK},
		"finding what was deleted":         {look("get"), world{phase: absent}, codes.OK},
		"growing on a node that lacks it":  {nodeExpand(true), there, codes.OK},
		"changing what isn't there":        {modify(retain), world{phase: absent}, codes.OK},
		"another call's end as its own":    {attach(readWrite), world{phase: deleting}, codes.OK},
		"making what is being deleted yet": {create([]int64{mib}, ""), world{phase: deleting, size: mib}, codes.NotFound},
	} {
		if next := c.move.answered(only(c.in), c.code); len(next) > 0 {
			t.Errorf("%s is explained: %v", name, next)
		}
	}
}

func TestACallWithoutAnAnswerLeavesAllThatItMayHaveDone(t *testing.T) {
	s := create([]int64{mib}, "").unanswered(only(world{phase: absent}))
	for _, w := range []world{{phase: absent}, {phase: making, size: mib}, {phase: ready, size: mib}} {
		if !s[w] {
			t.Errorf("a create that was lost can't lead to %v, only to %v", w, s)
		}
	}
	s = look("validate").answered(s, codes.OK)
	if w, sure := s.drift().where(func(w world) bool { return w.phase == ready }).certain(); !sure || w.size != mib || s[world{phase: absent}] {
		t.Errorf("found again it is %v", s)
	}
	s = remove().answered(s, codes.OK)
	if w, sure := s.certain(); !sure || w.phase != absent {
		t.Errorf("deleted it is %v", s)
	}
}

func TestCallsAtOnceNeedAnOrderThatExplainsThem(t *testing.T) {
	there := only(world{phase: ready, size: mib})
	answered := func(m move, code codes.Code) flying { return flying{move: m, err: codeError(code)} }
	if next := explain(there, []flying{answered(remove(), codes.OK), answered(expand(2*mib, rows.Can{}), codes.OK)}); !next[world{phase: absent}] || len(next) != 1 {
		t.Errorf("grown and deleted it is %v", next)
	}
	if next := explain(there, []flying{answered(remove(), codes.OK), answered(remove(), codes.Aborted)}); len(next) == 0 {
		t.Error("two deletions, one told to come again, aren't explained")
	}
	if next := explain(there, []flying{answered(stage(true), codes.OK), answered(publish(), codes.OK)}); len(next) > 0 {
		t.Errorf("staged without an attachment it is %v", next)
	}
}
