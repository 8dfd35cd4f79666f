// SPDX-License-Identifier: Apache-2.0
public import Migration

/// A failure that a simulated device was told to have: the n-th use of an operation goes wrong.
public struct ScriptedFailure: Hashable, Sendable {
  /// What is counted.
  public enum Operation: Hashable, Sendable {
    /// A request for any state.
    case anyArc
    /// A request for this state.
    case arc(to: MigrationState)
    /// A reading of the state.
    case readState
    /// A question for the pre-copy info.
    case preCopyInfo
    /// A question for the stop-copy size.
    case stopCopySize
    /// A read of the configuration space.
    case flush
    /// A reset by the host.
    case reset
    /// A read of device state.
    case read
    /// A write of device state.
    case write
    /// A limit on what comes in to a device of the source.
    case limit
    /// The removal of such a limit.
    case lift
  }

  /// Where a device is after a request that failed.
  public enum Place: Hashable, Sendable {
    /// Where it was before.
    case unchanged
    /// In this state.
    case at(MigrationState)
  }

  /// What goes wrong.
  public enum Effect: Hashable, Sendable {
    /// The call fails.
    case fails(ErrorNumber, Place)
    /// The call answers so many microseconds later than it should; nil is never.
    case hangs(microseconds: UInt64?)
  }

  /// What is counted.
  public var operation: Operation
  /// Which use of it goes wrong; the first is 1.
  public var use: Int
  /// What goes wrong.
  public var effect: Effect

  /// What the use of that number does; the first is 1.
  public init(_ operation: Operation, use: Int, _ effect: Effect) {
    self.operation = operation
    self.use = use
    self.effect = effect
  }
}

extension ScriptedFailure.Operation {
  /// What a control request counts as; a request for a state counts twice, once by its name.
  static func counted(_ request: ControlRequest) -> [Self] {
    switch request {
    case .setState(let state): [.anyArc, .arc(to: state)]
    case .readState: [.readState]
    case .preCopyInfo: [.preCopyInfo]
    case .stopCopySize: [.stopCopySize]
    case .flush: [.flush]
    case .reset: [.reset]
    }
  }
}
