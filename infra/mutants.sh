#!/bin/bash
# Breaks the engine's orders of summation and its masks and keys, one at a time, in a copy of the
# sources. Each mutant must be killed by a test. NAMES="tree loss" runs some of them.
#
# Builds and the copy go to $MUTANTS_TARGET_DIR, or to a folder that is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=worker/engine/src
if [ -n "${MUTANTS_TARGET_DIR:-}" ]; then
  copy=$MUTANTS_TARGET_DIR/mutants
  mkdir -p "$copy"
else
  copy=$(mktemp -d "${TMPDIR:-/tmp}/mutants.XXXXXX")
  trap 'rm -rf "$copy"' EXIT
fi
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$copy" --
# What a run that was cut short built of a mutant must be built again.
find "$copy/$engine" -name '*.rs' -exec touch {} +
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$copy/target}"
export CARGO_INCREMENTAL=1
cargo=${CARGO:-cargo}
cd "$copy"

# Built in a hurry: no optimisation moves a bit.
tests() {
  $cargo test --quiet --offline -p stoker-engine --lib \
    --config 'profile.dev.package.stoker-engine.opt-level = 1' "$@"
}

# Tests that take seconds; all others are asked where these see nothing.
quick="collective determinism loss optimizer ranks recorded resume"

killed=0
survivors=()
# NAME FILE OLD NEW: replaces OLD, which the file holds once, by NEW.
mutant() {
  local name=$1 file=$engine/$2
  if [ -n "${NAMES:-}" ] && [[ " $NAMES " != *" $name "* ]]; then return; fi
  cp "$file" "$copy/kept"
  python3 - "$file" "$3" "$4" <<'PY' || { survivors+=("$name"); echo "no longer applies: $name to $file"; return; }
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
if text.count(old) != 1:
    sys.exit(f"{text.count(old)} places match")
open(path, "w").write(text.replace(old, new))
PY
  if ! tests --no-run >"$copy/log" 2>&1; then
    survivors+=("$name")
    echo "doesn't compile: $name"
    cat "$copy/kept" >"$file"
    return
  fi
  if tests -- $quick >"$copy/log" 2>&1 && tests >"$copy/log" 2>&1; then
    survivors+=("$name")
    echo "survives  $name"
  else
    killed=$((killed + 1))
    echo "killed    $name: $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p; s/^    \(tests::.*\|.*::tests::.*\)$/\1/p' "$copy/log" | sort -u | head -3 | tr '\n' ' ')"
  fi
  # A newer time than the mutant's, so that it is built again.
  cat "$copy/kept" >"$file"
}

echo "mutants: the sources as they are"
tests -- $quick >/dev/null || { echo "mutants: the tests fail without a mutant"; exit 2; }

mutant tree cpu/session.rs \
  'let mut top = self.added.count_ones() as usize;' \
  'let mut top = usize::from(self.added > 0); if top == 1 { self.added = 1; }'
mutant groups cpu/ops/conv.rs \
  'for partial in partials.chunks_exact(size) {' \
  'for partial in partials.chunks_exact(size).rev() {'
mutant norm cpu/optimizer.rs \
  'squares.iter().sum::<f64>()' \
  'squares.iter().rev().sum::<f64>()'
mutant ranks collective/threads.rs \
  'let mut apart = 1;
        while apart < buffers.len() {' \
  'let (first_buffer, more) = buffers.split_at_mut(1);
        for right in more { for index in chunk.clone() { first_buffer[0][index] += right[index]; } }
        let mut apart = buffers.len();
        while apart < buffers.len() {'
mutant losses loss_tree.rs \
  'let mut top = self.added.count_ones() as usize;' \
  'let mut top = usize::from(self.added > 0); if top == 1 { self.added = 1; }'
mutant loss cpu/session.rs \
  'loss: self.losses[..all].iter().sum(),' \
  'loss: self.losses[..all].iter().rev().sum(),'
mutant metrics evaluate.rs \
  'let (loss, states) = right.save()?;
                left.merge(loss, &states)?;' \
  'std::mem::swap(&mut left, &mut right);
                let (loss, states) = right.save()?;
                left.merge(loss, &states)?;'
mutant mask cpu/loss.rs \
  'of(row, scores, d).unwrap_or_else(|| (no_loss(d), 0.0))' \
  'of(row, scores, d).unwrap_or((0.0, 0.0))'
mutant weight cpu/loss.rs \
  'of(row, scores, d).unwrap_or_else(|| (no_loss(d), 0.0))' \
  'of(row, scores, d).unwrap_or_else(|| (no_loss(d), 1.0))'
mutant dropout cpu/session.rs \
  'first_row: shard.first_row,' \
  'first_row: 0,'
mutant augmentation feed.rs \
  'let shard = u16::try_from(place.shard).unwrap_or(u16::MAX);' \
  'let shard = u16::try_from(self.steps.len()).unwrap_or(u16::MAX);'
mutant shuffle order.rs \
  'Stream::new(seed, Purpose::Shuffle, 0, epoch)' \
  'Stream::new(seed, Purpose::Shuffle, 0, epoch - epoch)'

echo "mutants: $killed killed, ${#survivors[@]} not ${survivors[*]:-}"
[ ${#survivors[@]} -eq 0 ]
