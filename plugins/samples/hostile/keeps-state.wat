;; It counts its runs, and gives the count as its result.
(module
  (import "[export]stoker:plugin/preprocess@0.1.0" "[resource-new]transform"
    (func $new (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $runs (mut i32) (i32.const 0))
  ;; description: name, inputs, outputs, config-schema
  (data (i32.const 16) "\40\00\00\00\05\00\00\00" "\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00" "\48\00\00\00\02\00\00\00")
  (data (i32.const 64) "count") (data (i32.const 72) "{}")
  ;; one tensor: name, shape [4], uint8 values of 4 bytes at 256
  (data (i32.const 128) "\40\00\00\00\05\00\00\00" "\c0\00\00\00\01\00\00\00"
    "\02\00\00\00" "\00\01\00\00\04\00\00\00")
  (data (i32.const 192) "\04\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "stoker:plugin/preprocess@0.1.0#describe") (result i32) (i32.const 16))
  (func (export "stoker:plugin/preprocess@0.1.0#[static]transform.create")
    (param i32 i32) (result i32)
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (call $new (i32.const 1)))
    (i32.const 512))
  (func (export "stoker:plugin/preprocess@0.1.0#[method]transform.run")
    (param $self i32) (param $rows i32) (param $tensors i32) (param $count i32) (param $seed i64)
    (result i32)
    (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
    (i32.store8 (i32.const 256) (global.get $runs))
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $rows))
    (i32.store (i32.const 520) (i32.const 128))
    (i32.store (i32.const 524) (i32.const 1))
    (i32.const 512)))
