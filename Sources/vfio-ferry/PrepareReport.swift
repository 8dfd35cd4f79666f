// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// What was done to one physical function, or would be: told line by line as it happens, or as JSON when it has ended.
final class PrepareReport {
  private let device: PhysicalFunction
  private let action: String
  private let isDryRun: Bool
  private let format: FormatOptions
  private let console: Console
  private var writes: [String] = []
  private var notes: [String] = []

  init(of device: PhysicalFunction, action: String, isDryRun: Bool, _ format: FormatOptions, _ console: Console) {
    self.device = device
    self.action = action
    self.isDryRun = isDryRun
    self.format = format
    self.console = console
  }

  /// Tells of a write before it is done.
  func announce(_ write: String) {
    writes.append(write)
    if !format.wantsJSON { console.line(write) }
  }

  /// Tells what is no write.
  func note(_ text: String) {
    notes.append(text)
    if !format.wantsJSON { console.note(text) }
  }

  /// Tells how it ended.
  /// - Parameter idle: what there is to say where there was nothing to do.
  func end(_ outcome: Preparation.Outcome, idle: String) {
    if outcome == .nothingToDo, !format.wantsJSON { console.note("\(device): \(idle)") }
    printJSON(outcome == .nothingToDo ? "nothing-to-do" : "done", nil)
  }

  /// Tells that it failed, which is said on standard error besides.
  func end(_ error: PreparationError) { printJSON(error.outcome, error) }

  private func printJSON(_ outcome: String, _ error: PreparationError?) {
    guard format.wantsJSON else { return }
    console.json(
      .object([
        "name": .string("\(device)"), "action": .string(action), "dry_run": .bool(isDryRun),
        "outcome": .string(outcome), "writes": .array(writes.map { .string($0) }),
        "notes": .array(notes.map { .string($0) }), "error": JSON(error.map { "\($0)" }),
        "not_undone": .array((error?.wayBack ?? []).map { .string($0) }),
      ]), format)
  }
}

extension PreparationError {
  /// How it ended, as the exit status tells it too: 4, 3 or 1.
  fileprivate var outcome: String {
    switch cause {
    case .nothing where !hasChanged: "nothing"
    case .refused where !hasChanged: "refused"
    case .nothing, .refused, .failed, .differs, .record: "failed"
    }
  }
}
