// SPDX-License-Identifier: Apache-2.0

/// Who dies, or is cut, and when: and what has to come of it by docs/helper-protocol.md and by contract 1, "never two, never none
/// by surprise". Written from these, and not from what the programs do.
struct CrashCase: Hashable, Sendable {
  enum Side: String, Sendable { case source, destination }

  enum Victim: String, CaseIterable, Sendable {
    case sourceHelper = "source helper"
    case destinationHelper = "destination helper"
    case sourceVMM = "source VMM"
    case destinationVMM = "destination VMM"
    case link

    /// Whose process it is; nil: nobody's.
    var side: Side? {
      switch self {
      case .sourceHelper, .sourceVMM: .source
      case .destinationHelper, .destinationVMM: .destination
      case .link: nil
      }
    }

    var isVMM: Bool { self == .sourceVMM || self == .destinationVMM }
  }

  /// A step of one side, by the name that the example VMM has for it.
  struct Step: Hashable, Sendable, CustomStringConvertible {
    let side: Side
    let name: String

    var description: String { "\(side.rawValue) \(name)" }

    /// All steps of a move. Each comes after those before it, but for the first eight: to `after-begin` the two sides go each at
    /// its own pace.
    static let all: [Step] =
      source("after-hello", "after-add", "after-memory", "after-tracking", "after-begin")
      + destination("after-hello", "after-add", "after-memory", "after-begin")
      + source("after-ready", "after-vcpus-stopped", "after-quiesce", "after-blobs", "after-complete")
      + destination("after-loaded", "after-blobs", "after-restore")
      + source("before-commit", "after-commit")
      + destination("before-resume", "after-resume")

    private static func source(_ names: String...) -> [Step] { names.map { Step(side: .source, name: $0) } }
    private static func destination(_ names: String...) -> [Step] { names.map { Step(side: .destination, name: $0) } }

    fileprivate var position: Int { Self.all.firstIndex(of: self) ?? Self.all.endIndex }
    var isLast: Bool { name == "after-resume" }
    fileprivate func isFrom(_ side: Side, _ name: String) -> Bool { position >= Step(side: side, name: name).position }
  }

  let victim: Victim
  let step: Step

  static let all = Victim.allCases.flatMap { victim in Step.all.map { CrashCase(victim: victim, step: $0) } }

  /// How a side is at the end.
  enum Place: Hashable, Sendable {
    /// Its devices run, with what the guest has in them, and so does the guest.
    case runs
    /// Its devices have stopped with what the guest has in them, and the guest runs on the other side: it has said so.
    case moved
    /// The same, but nobody has said that it runs there. It may not run here before somebody knows.
    case inDoubt
    /// Its devices run, and nothing of the guest is in them.
    case empty
    /// Its VMM is dead, nobody holds the devices, and the kernel has reset them.
    case closed
  }

  /// What a new helper does.
  enum Recovery: Hashable, Sendable {
    case none
    /// The source's devices run on from wherever they were.
    case takesBack
    /// The destination's devices, where anything of the guest may be in them, are reset.
    case empties
    /// The destination's devices, which have everything, run.
    case resumes
    /// The source's devices, which were let go of, run again, because somebody has made sure that they don't on the other side.
    case takesBackByWord
  }

  struct Outcome: Hashable, Sendable {
    var source: Place
    var destination: Place
    var recovery: Recovery
  }

  /// The source's helper has let go.
  private var isLetGo: Bool { step.isFrom(.source, "after-commit") }
  /// The source's VMM has said "committed" and the destination's has heard it.
  private var isCommitted: Bool { step.isFrom(.destination, "before-resume") }
  /// The destination's VMM has all that it needs of its helper.
  private var isKept: Bool { step.isFrom(.destination, "after-blobs") }
  private var isResumed: Bool { step.isFrom(.destination, "after-resume") }

  var expected: Outcome {
    switch victim {
    case .sourceHelper:
      return isLetGo
        ? Outcome(source: .moved, destination: .runs, recovery: .none)
        : Outcome(source: .runs, destination: .empty, recovery: .takesBack)
    case .destinationHelper where isKept:
      return Outcome(source: .moved, destination: .runs, recovery: isResumed ? .none : .resumes)
    case .destinationHelper:
      return Outcome(source: .runs, destination: .empty, recovery: .empties)
    case .sourceVMM:
      // Between "let go" and "committed" the guest dies with its VMM, and nobody else has leave to run it.
      return Outcome(source: .closed, destination: isCommitted ? .runs : .empty, recovery: .none)
    case .destinationVMM:
      return isLetGo
        ? Outcome(source: .inDoubt, destination: .closed, recovery: .takesBackByWord)
        : Outcome(source: .runs, destination: .closed, recovery: .none)
    case .link where isCommitted:
      return Outcome(source: .inDoubt, destination: .runs, recovery: .none)
    case .link:
      return isLetGo
        ? Outcome(source: .inDoubt, destination: .empty, recovery: .takesBackByWord)
        : Outcome(source: .runs, destination: .empty, recovery: .none)
    }
  }

  /// The phase that the helper's last line names, where its VMM died at a step of its own; nil: it says nothing, because there hanging up
  /// is a farewell.
  var recordedPhase: String? {
    switch (step.side, step.name) {
    case (_, "after-hello"), (_, "after-add"), (_, "after-memory"), (_, "after-tracking"): nil
    case (.source, "after-begin"), (_, "after-ready"), (_, "after-vcpus-stopped"): "pre-copy"
    case (_, "after-quiesce"), (.source, "after-blobs"): "stopped"
    case (_, "after-complete"), (_, "before-commit"): "complete"
    case (.destination, "after-begin"): "loading"
    case (_, "after-loaded"), (.destination, "after-blobs"), (_, "after-restore"), (_, "before-resume"): "loaded"
    default: nil
    }
  }

  /// The states in which a device can be in a phase.
  static let states: [String: Set<String>] = [
    "pre-copy": ["running", "pre-copy"], "quiescing": ["pre-copy", "pre-copy-p2p", "stop", "stop-copy"],
    "stopped": ["stop-copy"],
    "complete": ["stop"], "loading": ["running", "running-p2p", "stop", "resuming"], "loaded": ["stop"],
    "resuming": ["stop", "running-p2p", "running"],
    "going back": ["stop-copy", "pre-copy-p2p", "pre-copy", "stop", "running-p2p", "running", "resuming"],
  ]

  /// Whether these two may be at the end, whoever died and when.
  static func isAllowed(_ source: Place, _ destination: Place) -> Bool {
    switch (source, destination) {
    case (.runs, .empty), (.runs, .closed), (.moved, .runs), (.moved, .closed): true
    case (.inDoubt, .runs), (.inDoubt, .empty), (.inDoubt, .closed), (.closed, .runs), (.closed, .empty): true
    default: false
    }
  }
}
