// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Takes away what a limiter has set: for the limiter itself, and for what a process left that is gone. What is not there
/// any more needs nothing, and what somebody else has set since stays.
struct ThrottleTakedown {
  /// A step that failed.
  struct Failure: Hashable, CustomStringConvertible {
    let operation: String
    let subject: String
    let error: NetlinkError

    var description: String { "\(operation) (\(subject)): \(error)" }
  }

  let network: any NetworkControl

  /// Removes the filters with the cookie, and the qdisc of each where it was made for it and nobody else uses it.
  /// - Returns: what failed; the rest was done.
  func remove(_ places: [ThrottleRecord.PlacedFilter], _ cookie: Cookie) -> [Failure] {
    var failures: [Failure] = []
    var attempts = Self.patience.attempts
    for place in places.reversed() {
      let index = place.interface.index
      do throws(StepError) {
        guard try hooks(of: place) != nil else { continue }
        if let own = try survey(place.hook, of: place, cookie)?.own {
          try step("removing the filter", place) { () throws(NetlinkError) in
            try network.remove(own, at: place.hook, of: index)
          }
        }
        if place.madeHooks { try removeHooks(of: place, cookie, &attempts) }
      } catch {
        failures.append(error.failure)
      }
    }
    return failures
  }

  /// How often qdiscs are asked to go that have requests under way, and how many milliseconds pass in between: a second for
  /// all of them together. Such a request takes microseconds, and longer only where it loads a module.
  private static let patience = (attempts: 100, pause: UInt32(10))

  /// While anybody asks for the filters of a qdisc, or adds one, the kernel does not let it go (EBUSY). So it is asked again,
  /// and looked at again before: what was under way may have been a filter.
  ///
  /// Between the last look and the removal somebody may add a filter, and it goes too: the kernel can't be asked to remove
  /// a qdisc only where it is empty.
  private func removeHooks(
    of place: ThrottleRecord.PlacedFilter, _ cookie: Cookie, _ attempts: inout Int
  ) throws(StepError) {
    while try isOursAlone(place, cookie) {
      let isGone = try step("removing the qdisc", place) { () throws(NetlinkError) in
        do throws(NetlinkError) {
          try network.removeClsact(from: place.interface.index)
          return true
        } catch {
          guard error.errno == .busy, attempts > 1 else { throw error }
          return false
        }
      }
      if isGone != false { return }
      Pause.milliseconds(Self.patience.pause)
      attempts -= 1
    }
  }

  /// Whether there is a qdisc at a place, and nobody but us uses it.
  private func isOursAlone(_ place: ThrottleRecord.PlacedFilter, _ cookie: Cookie) throws(StepError) -> Bool {
    guard let holder = try hooks(of: place), holder.kind == HookHolder.bothHooks, !holder.isShared else { return false }
    for hook in [TrafficHook.ingress, .egress] {
      guard let survey = try survey(hook, of: place, cookie), survey.own == nil,
        survey.others == 0, survey.kin == 0
      else { return false }
    }
    return true
  }

  private func hooks(of place: ThrottleRecord.PlacedFilter) throws(StepError) -> HookHolder? {
    try step("looking at the qdisc", place) { () throws(NetlinkError) in
      try network.hooks(of: place.interface.index)
    } ?? nil
  }

  private func survey(
    _ hook: TrafficHook, of place: ThrottleRecord.PlacedFilter, _ cookie: Cookie
  ) throws(StepError) -> HookSurvey? {
    try step("looking for filters", place) { () throws(NetlinkError) in
      try network.survey(hook, of: place.interface.index, for: cookie)
    }
  }

  private struct StepError: Error { let failure: Failure }

  /// Does a step; that the interface, its qdisc or the filter is gone is as good as done.
  @discardableResult
  private func step<Answer>(
    _ operation: String, _ place: ThrottleRecord.PlacedFilter, _ body: () throws(NetlinkError) -> Answer
  ) throws(StepError) -> Answer? {
    do throws(NetlinkError) {
      return try body()
    } catch {
      if error.errno == .noDevice || error.errno == .noEntry { return nil }
      throw StepError(failure: Failure(operation: operation, subject: place.description, error: error))
    }
  }
}

extension ThrottleRecord.PlacedFilter: CustomStringConvertible {
  var description: String { "\(hook.rawValue) of \(interface.name)" }
}

extension HookHolder {
  /// The kind of qdisc that has both hooks.
  static let bothHooks = "clsact"
}

extension ErrorNumber {
  /// The corresponding C constant is `ENOENT`.
  static let noEntry = ErrorNumber(rawValue: 2)
  /// The corresponding C constant is `EPERM`.
  static let notPermitted = ErrorNumber(rawValue: 1)
  /// The corresponding C constant is `EEXIST`.
  static let exists = ErrorNumber(rawValue: 17)
  /// A library is missing. The corresponding C constant is `ELIBACC`.
  static let noLibrary = ErrorNumber(rawValue: 79)
}
