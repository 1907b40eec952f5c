;; It takes memory until there is no more, and then gives up.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "stoker:plugin/preprocess@0.1.0#describe") (result i32)
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
    unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[static]transform.create")
    (param i32 i32) (result i32) unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[method]transform.run")
    (param i32 i32 i32 i32 i64) (result i32) unreachable))
