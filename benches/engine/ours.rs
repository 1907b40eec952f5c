//! The process that runs the engine: speaks as the peers do.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use stoker_engine::{Control, Cpu, EngineError, Observer, Run, StepReport};

use crate::roofline;
use crate::shapes::Shape;
use crate::task::Fallible;

/// Stops after a number of steps and keeps their losses.
#[derive(Default)]
struct Count {
    left: usize,
    losses: Vec<f64>,
}

impl Observer for Count {
    fn step(&mut self, report: &StepReport) {
        self.left -= 1;
        self.losses.push(report.loss);
    }
    fn evaluated(&mut self, _: u64, _: u64, _: &[(String, f64)]) {}
    fn checkpoint(&mut self, _: u64, _: Vec<u8>) -> Result<(), EngineError> {
        Ok(())
    }
    fn control(&mut self) -> Control {
        if self.left == 0 {
            Control::Stop
        } else {
            Control::Continue
        }
    }
}

/// Makes `count` steps and gives their losses.
pub(crate) fn steps(run: &mut Run, count: usize) -> Fallible<Vec<f64>> {
    let mut observer = Count {
        left: count,
        losses: Vec::with_capacity(count),
    };
    run.run(&mut observer)?;
    Ok(observer.losses)
}

fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// A field of this process's status, in bytes.
fn memory(field: &str) -> Fallible<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .ok_or("no such field")?;
    let kib: i64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// Answers the questions on stdin until it ends.
pub(crate) fn serve(shape: &Shape, threads: usize) -> Fallible<()> {
    let cpu = Cpu::new(NonZeroUsize::new(threads).ok_or("no threads")?)?;
    let table = Arc::new(shape.task.table()?);
    let plan = shape.task.plan()?;
    std::fs::write("/proc/self/clear_refs", "5")?; // starts the peak again from here
    let (level, program) = (memory("VmRSS")?, memory("RssFile")?);
    let mut run = shape.task.start(&cpu, table, Vec::new())?;
    let hello = json!({"version": stoker_engine::build(), "quoted": plan.quote().peak_bytes,
        "flops": plan.quote().flops_per_step, "moved": roofline::bytes_per_step(&plan)});
    println!("{hello}");
    for line in std::io::stdin().lines() {
        let line = line?;
        let (verb, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let answer = match verb {
            "losses" => json!({"losses": steps(&mut run, count.parse()?)?}),
            "block" => {
                let (wall, cpu) = (Instant::now(), cpu_s());
                steps(&mut run, count.parse()?)?;
                json!({"wall_s": wall.elapsed().as_secs_f64(), "cpu_s": cpu_s() - cpu})
            }
            "peak" => roofline::measure(&cpu, threads, plan.quote().peak_bytes)?,
            // Without the pages of the program itself, which are read as it comes to them.
            _ => json!({"bytes": memory("VmHWM")? - level - (memory("RssFile")? - program)}),
        };
        println!("{answer}");
    }
    Ok(())
}
