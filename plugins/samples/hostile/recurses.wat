;; It calls itself until the stack is gone.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func $deeper (param i64) (result i64)
    (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "stoker:plugin/preprocess@0.1.0#describe") (result i32)
    (drop (call $deeper (i64.const 0))) unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[static]transform.create")
    (param i32 i32) (result i32) unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[method]transform.run")
    (param i32 i32 i32 i32 i64) (result i32) unreachable))
