// SPDX-License-Identifier: Apache-2.0
internal import Simulation
internal import Transport

/// `simulate --compare`.
extension SimulateCommand {
  /// Plays the sweep on all processors, and writes its page and pictures into a folder.
  func sweep(into folder: String, _ console: Console) throws {
    try OutputFile.checkFolder(folder)
    let sweep = QuiescingSweep()
    let runs = sweep.runs
    let rows = sweep.rows(
      try ParallelRuns.results(of: runs.count, name: "sweep", console) { runs[$0].play(checksum: .xxh3) })
    ColumnTable(quiescing: rows).print(format, console)
    if let row = rows.first(where: { $0.problem != nil }), let problem = row.problem {
      throw CommandFailure.failed("\(Figures.grouped(row.queuePairs)) queue pairs: \(problem)")
    }
    for file in SimulationSweepPage(rows: rows).files {
      try OutputFile.write(file.content, to: "\(folder)/\(file.name)")
    }
  }
}
