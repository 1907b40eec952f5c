;; It gives back a batch without tensors, as its description promises. Seeds from 100 on make it
;; misbehave, each in its own way.
(module
  (import "[export]stoker:plugin/preprocess@0.1.0" "[resource-new]transform"
    (func $new (param i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "\40\00\00\00\08\00\00\00" "\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00" "\48\00\00\00\02\00\00\00")
  (data (i32.const 64) "turncoat{}")
  ;; an error `failed("no luck")`
  (data (i32.const 96) "\01\00\00\00\02\00\00\00\70\00\00\00\07\00\00\00") (data (i32.const 112) "no luck")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "stoker:plugin/preprocess@0.1.0#describe") (result i32) (i32.const 16))
  (func (export "stoker:plugin/preprocess@0.1.0#[static]transform.create")
    (param i32 i32) (result i32)
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (call $new (i32.const 1)))
    (i32.const 512))
  (func $deeper (param i64) (result i64)
    (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func $alias
    (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $again
      (i32.store (local.get $at) (i32.const 1024))
      (i32.store offset=4 (local.get $at) (i32.const 60000))
      (local.set $at (i32.add (local.get $at) (i32.const 36)))
      (br_if $again (i32.lt_u (local.get $at) (i32.const 130000)))))
  (func (export "stoker:plugin/preprocess@0.1.0#[method]transform.run")
    (param $self i32) (param $rows i32) (param $tensors i32) (param $count i32) (param $seed i64)
    (result i32)
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $rows))
    (i32.store (i32.const 520) (i32.const 0))
    (i32.store (i32.const 524) (i32.const 0))
    ;; 100: loops
    (if (i64.eq (local.get $seed) (i64.const 100)) (then (loop $again (br $again))))
    ;; 101: takes memory until there is no more, then traps
    (if (i64.eq (local.get $seed) (i64.const 101)) (then
      (loop $again (br_if $again (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
      unreachable))
    ;; 102: recurses
    (if (i64.eq (local.get $seed) (i64.const 102)) (then (drop (call $deeper (i64.const 0)))))
    ;; 103: traps
    (if (i64.eq (local.get $seed) (i64.const 103)) (then unreachable))
    ;; 104: a result beyond its memory
    (if (i64.eq (local.get $seed) (i64.const 104)) (then
      (i32.store (i32.const 520) (i32.const 131000)) (i32.store (i32.const 524) (i32.const 100))))
    ;; 105: a large result from little memory
    (if (i64.eq (local.get $seed) (i64.const 105)) (then
      (call $alias)
      (i32.store (i32.const 520) (i32.const 65536)) (i32.store (i32.const 524) (i32.const 1790))))
    ;; 106: a row too many
    (if (i64.eq (local.get $seed) (i64.const 106)) (then
      (i32.store (i32.const 516) (i32.add (local.get $rows) (i32.const 1)))))
    ;; 107: an unknown case of a variant
    (if (i64.eq (local.get $seed) (i64.const 107)) (then (i32.store (i32.const 512) (i32.const 9))))
    ;; 108: an error of the contract
    (if (i64.eq (local.get $seed) (i64.const 108)) (then (return (i32.const 96))))
    (i32.const 512)))
