use super::*;
#[test]
fn speed() {
    for (name, model, w, b, steps) in [
        ("mlp", r#"{"family":"mlp","hidden":[256,256]}"#, 784, 128, 400),
        ("cnn", r#"{"input":[1,28,28],"layers":[{"type":"conv2d","channels":32,"kernel":3},{"type":"activation","function":"relu"},{"type":"conv2d","channels":64,"kernel":3},{"type":"activation","function":"relu"},{"type":"max_pool2d","kernel":2},{"type":"flatten"},{"type":"linear","units":128},{"type":"activation","function":"relu"},{"type":"linear","units":10}]}"#, 784, 64, 40),
    ] {
        let train = format!(r#"{{"steps": {steps}, "batch_size": {b}, "loss": "cross_entropy"}}"#);
        let plan = plan(model, &train, w, Target::Classes(10));
        let table = Arc::new(Table::new(numbers(1280 * w, 1), w, targets(1280, Target::Classes(10))).unwrap());
        for threads in [1, 2] {
            let cpu = cpu(threads, Level::detect());
            let mut best = 0f64; let mut all = vec![];
            for _ in 0..4 {
                let mut r = Run::new(&cpu, input(&plan, &table, None)).unwrap();
                let t = std::time::Instant::now();
                r.run(&mut Watch::default()).unwrap();
                let s = (steps * b) as f64 / t.elapsed().as_secs_f64();
                best = best.max(s); all.push(s as u64);
            }
            println!("SPEED {name} {threads} threads: best {best:.0} samples/s {all:?}");
        }
        let cpu = cpu(1, Level::detect());
        let t = std::time::Instant::now();
        let _ = Run::new(&cpu, input(&plan, &table, None)).unwrap();
        println!("SPEED {name} new: {:?}", t.elapsed());
        // per-kernel profile
        let mut s = crate::cpu::session::CpuSession::new(cpu.pool().clone(), Level::detect(), plan.clone()).unwrap();
        use crate::Session;
        s.write(&crate::init::initial_weights(&plan), &[]);
        s.profile();
    }
}
