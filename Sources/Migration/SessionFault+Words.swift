// SPDX-License-Identifier: Apache-2.0

extension SessionFault {
  /// What went wrong, in words.
  /// - Parameter names: of the session's devices.
  public func words(names: [String]) -> String {
    switch self {
    case .device(let index, let error): "\(names[index]): \(error)"
    case .channel(let error): "\(error)"
    case .stream(let error): "\(error)"
    case .mismatch(let reason): reason
    case .givenUp(let reason): "the destination gave up: \(reason)"
    case .keptResetting(let index, let times): "the guest of \(names[index]) reset it \(times) times during pre-copy"
    case .memory(let error): "\(error)"
    case .stillLimited(let index, let error):
      "what comes in to \(names[index]) is still limited: \(error.map { "\($0)" } ?? "its limiter has not answered")"
    case .resetAtLastMoment(let index):
      "the guest of \(names[index]) reset it when it was to be stopped: move it again"
    case .outrun(let decision): "the guest dirties more than can be sent: \(decision)"
    case .declaredDead(let index): "\(names[index]) did not answer and was declared dead"
    case .interrupted(let reason): "interrupted by \(reason)"
    }
  }
}
