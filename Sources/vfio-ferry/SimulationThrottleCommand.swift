// SPDX-License-Identifier: Apache-2.0
internal import Simulation
internal import Transport

/// `simulate --throttle`.
extension SimulateCommand {
  /// Plays a throttle sweep on all processors, and writes its page and pictures into a folder.
  func sweep(_ sweep: ThrottleSweep, into folder: String, _ console: Console) throws {
    try OutputFile.checkFolder(folder)
    let runs = sweep.runs
    let rows = sweep.rows(
      try ParallelRuns.results(of: runs.count, name: "sweep", console) { runs[$0].play(checksum: .xxh3) })
    ColumnTable(throttle: rows).print(format, console)
    if let row = rows.first(where: { $0.result.problem != nil }), let problem = row.result.problem {
      throw CommandFailure.failed("\(row.gigabits) Gbit/s, \(row.way.words): \(problem)")
    }
    for file in SimulationThrottlePage(rows: rows, guestBytes: sweep.guestBytes).files {
      try OutputFile.write(file.content, to: "\(folder)/\(file.name)")
    }
  }
}
