// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation
internal import Synchronization
internal import Transport

/// `simulate --compare`.
extension SimulateCommand {
  /// Plays the sweep on all processors, and writes its page and pictures into a folder.
  func sweep(into folder: String, _ console: Console) throws {
    let sweep = QuiescingSweep()
    let rows = sweep.rows(try Self.results(sweep, console))
    let table = SimulationSweepTable(rows: rows)
    if format.wantsJSON {
      console.json(.object(["rows": table.json]), format)
    } else {
      for line in table.lines { console.line(line) }
    }
    if let row = rows.first(where: { $0.problem != nil }), let problem = row.problem {
      throw CommandFailure.failed("\(Figures.grouped(row.queuePairs)) queue pairs: \(problem)")
    }
    for file in SimulationSweepPage(rows: rows).files {
      try OutputFile.write(file.content, to: "\(folder)/\(file.name)")
    }
  }

  private static func results(_ sweep: QuiescingSweep, _ console: Console) throws -> [QuiescingSweepResult] {
    let runs = sweep.runs
    let desk = SweepDesk(count: runs.count)
    try ParallelRuns.each(below: runs.count, name: "sweep") { number in
      let result = runs[number].play(checksum: .xxh3)
      let ended = desk.put(result, number)
      if console.showsProgress { console.err("\r\u{1b}[K\(ended) of \(runs.count) runs") }
    }
    if console.showsProgress { console.err("\r\u{1b}[K") }
    return desk.results
  }
}

/// Where the threads hand in their results.
private final class SweepDesk: Sendable {
  private let state: Mutex<(results: [QuiescingSweepResult], ended: Int)>

  init(count: Int) { state = Mutex((Array(repeating: QuiescingSweepResult(), count: count), 0)) }

  var results: [QuiescingSweepResult] { state.withLock { $0.results } }

  /// - Returns: how many there are now.
  func put(_ result: QuiescingSweepResult, _ number: Int) -> Int {
    state.withLock {
      $0.results[number] = result
      $0.ended += 1
      return $0.ended
    }
  }
}
