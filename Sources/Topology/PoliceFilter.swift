// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration
internal import Synchronization

/// Limits what a device receives: filters with a police action, in front of the device, that drop what is over the rate.
///
/// What others have set stays: a `clsact` qdisc that is there is used and left, the filter takes a preference that is free
/// and carries a cookie of sixteen random bytes, by which it alone is found again; a qdisc that was made here goes only
/// when nobody else uses it. A new rate takes the old one's place at one stroke.
public final class PoliceFilter: RateLimiter {
  /// Always ``RateLimiterKind/police``.
  public var kind: RateLimiterKind { .police }

  /// The device, as users call it.
  public let device: String
  /// Where its traffic is policed; each place lets the rate through.
  public let places: [PolicePlace]

  private let folder: ThrottleFolder
  private let network: any NetworkControl
  /// What is set, and written down; nil where nothing is.
  private let held = Mutex<Held?>(nil)

  private struct Held {
    let cookie: Cookie
    /// In the order of the places.
    var placed: [ThrottleRecord.PlacedFilter]
    var record: ThrottleRecord
    /// Where it is written down.
    var text: HeldText
    /// Why there is no filter at a place, by its number.
    var leftOut: [Int: RateLimiterError] = [:]
  }

  /// A limiter that has set nothing yet.
  /// - Parameters:
  ///   - places: at least one.
  ///   - folder: where the record of what is set is kept.
  public convenience init(device: String, places: [PolicePlace], folder: ThrottleFolder = ThrottleFolder()) {
    self.init(device: device, places: places, folder: folder, network: KernelNetwork())
  }

  init(device: String, places: [PolicePlace], folder: ThrottleFolder, network: any NetworkControl) {
    precondition((1...ThrottleRecord.maximumPlaces).contains(places.count))
    self.device = device
    self.places = places
    self.folder = folder
    self.network = network
  }

  /// Limits what the device receives, at each place.
  /// - Parameter bytesPerSecond: of Ethernet frames; not 0.
  public func limit(to bytesPerSecond: UInt64) throws(RateLimiterError) {
    guard bytesPerSecond > 0 else { throw refusal("limiting", places[0], "0 is no rate") }
    let result = held.withLock { held in
      Result { () throws(RateLimiterError) in
        if held == nil { try setUp(bytesPerSecond, &held) } else { try change(to: bytesPerSecond, &held!) }
      }
    }
    try result.get()
  }

  /// Removes the filters, and the qdiscs that were made for them and that nobody else uses.
  public func restore() throws(RateLimiterError) {
    let result = held.withLock { held in
      Result { () throws(RateLimiterError) in
        guard let set = held else { return }
        let failures = ThrottleTakedown(network: network).remove(set.placed, set.cookie)
        if let first = failures.first {
          var error = RateLimiterError(
            device: device, kind: kind, operation: first.operation, subject: first.subject, first.error)
          error.wayBack = failures.dropFirst().map(\.description)
          throw error
        }
        set.text.remove()
        held = nil
      }
    }
    try result.get()
  }

  /// Why places were left out when the limit was set: hardware that was to do it does not. Empty where nothing is set, and
  /// where all places have their filters.
  public var leftOut: [RateLimiterError] {
    held.withLock { held in places.indices.compactMap { held?.leftOut[$0] } }
  }

  /// That filters can be put at each place, as far as looking shows.
  public func check() throws(RateLimiterError) { for place in places { _ = try look(at: place) } }

  /// What is set, and what it has done so far; empty where nothing is set, or somebody has removed it.
  public func look() throws(RateLimiterError) -> [PoliceReport] {
    guard let cookie = held.withLock({ $0?.cookie }) else { return [] }
    var reports: [PoliceReport] = []
    for place in places {
      let survey = try survey(place, cookie)
      guard let own = survey.own else { continue }
      reports.append(
        PoliceReport(
          place: place, rate: own.rate, bytes: own.bytes, drops: own.drops, isInHardware: own.inHardware,
          comesFirst: survey.firstOther.map { own.preference < $0 } ?? true))
    }
    return reports
  }
}

extension PoliceFilter {
  private func setUp(_ rate: UInt64, _ held: inout Held?) throws(RateLimiterError) {
    let cookie = Cookie.random()
    var placed: [ThrottleRecord.PlacedFilter] = []
    for place in places { placed.append(try look(at: place)) }
    let record = try ThrottleRecord.new(.police(cookie, placed), of: device, folder)
    let text = try written { () throws(SystemError) in try folder.add(record) }
    var set = Held(cookie: cookie, placed: placed, record: record, text: text)
    do throws(RateLimiterError) {
      for index in places.indices {
        do throws(RateLimiterError) {
          try put(index, rate, &set)
        } catch {
          try leaveOut(index, error, &set)
        }
      }
    } catch {
      let failures = ThrottleTakedown(network: network).remove(set.placed, cookie)
      // What could not be taken away stays on record, and restore() tries again.
      if failures.isEmpty { set.text.remove() } else { held = set }
      var error = error
      error.wayBack = failures.map(\.description)
      throw error
    }
    held = set
  }

  private func change(to rate: UInt64, _ held: inout Held) throws(RateLimiterError) {
    var changed: [(own: HookSurvey.Own, redirects: Bool)] = []
    do throws(RateLimiterError) {
      for (index, place) in places.enumerated() where held.leftOut[index] == nil {
        if let own = try survey(place, held.cookie).own {
          // An error does not say that nothing was changed: the answer may be lost.
          changed.append((own, place.bypassesOthers))
          try asking("changing the rate", place) { () throws(NetlinkError) in
            try network.replace(
              police: own.police, with: PoliceRate(bytesPerSecond: rate, cookie: held.cookie),
              redirects: place.bypassesOthers)
          }
        } else {
          // Somebody has removed it, perhaps with the qdisc.
          if try look(at: place).madeHooks, !held.placed[index].madeHooks { try note(index, madeHooks: true, &held) }
          try put(index, rate, &held)
        }
      }
    } catch {
      var error = error
      for (own, redirects) in changed {
        do throws(NetlinkError) {
          try network.replace(
            police: own.police, with: PoliceRate(bytesPerSecond: own.rate, cookie: held.cookie), redirects: redirects)
        } catch let failure {
          error.wayBack.append("setting the old rate again: \(failure)")
        }
      }
      throw error
    }
  }

  /// Goes on without a place that only hardware was to police, where hardware does not and there is another place.
  private func leaveOut(_ index: Int, _ error: RateLimiterError, _ held: inout Held) throws(RateLimiterError) {
    guard places[index].hardwareOnly, case .kernel(.notSupported, _) = error.cause,
      held.leftOut.count + 1 < places.count
    else { throw error }
    let failures = ThrottleTakedown(network: network).remove([held.placed[index]], held.cookie)
    if !failures.isEmpty { throw error }
    held.leftOut[index] = error
  }

  /// Looks whether a filter can be put there.
  private func look(at place: PolicePlace) throws(RateLimiterError) -> ThrottleRecord.PlacedFilter {
    let index = place.interface.index
    // Records are looked at before and after: a maker writes its own before it makes a qdisc, and removes the qdisc first.
    let wasOurs = folder.tellsOfHooks(on: index)
    let holder = try asking("looking at the qdisc", place) { () throws(NetlinkError) in try network.hooks(of: index) }
    if let holder {
      if holder.isShared { throw refusal("adding the filter", place, "its filters are shared with other interfaces") }
      // The kernel would take it, and put it on the ingress: the other direction.
      if holder.kind != HookHolder.bothHooks, place.hook == .egress {
        throw refusal(
          "adding the filter", place,
          "the interface has a qdisc of the kind \(holder.kind), which has no egress; with clsact in its place this works"
        )
      }
      if place.bypassesOthers {
        if try survey(place, .nobodys).others > 0 {
          throw refusal(
            "adding the filter", place,
            "there are filters of others, which what this filter lets through would not pass")
        }
      }
    }
    // Where another limiter has made it, the last to leave removes it.
    return ThrottleRecord.PlacedFilter(
      hook: place.hook, interface: place.interface,
      madeHooks: holder == nil || wasOurs || folder.tellsOfHooks(on: index))
  }

  /// Puts a filter in its place.
  private func put(_ index: Int, _ rate: UInt64, _ held: inout Held) throws(RateLimiterError) {
    let place = places[index]
    if held.placed[index].madeHooks, try asking("looking at the qdisc", place, hooksOf(place)) == nil {
      do throws(NetlinkError) {
        try network.addClsact(to: place.interface.index)
      } catch {
        guard error.errno == .exists else { throw failure("adding the qdisc", place, error) }
        // Somebody was quicker. Where it was another limiter, the last to leave removes it here too.
        if !folder.tellsOfHooks(on: place.interface.index, besides: held.record.name) {
          try note(index, madeHooks: false, &held)
        }
        _ = try look(at: place)
      }
    }
    let rule = PoliceRule(
      match: place.match, hardwareOnly: place.hardwareOnly,
      rate: PoliceRate(bytesPerSecond: rate, cookie: held.cookie))
    var taken: UInt16 = 0
    while true {
      let free = try survey(place, held.cookie).freePreference
      guard free != 0 else { throw refusal("adding the filter", place, "no preference is free") }
      do throws(NetlinkError) {
        try network.add(rule, at: place.hook, of: place.interface.index, preference: free)
        return
      } catch {
        // Somebody may have taken the preference in between; then another one is free now.
        guard error.errno == .exists || error.errno == .invalidArgument, free > taken,
          try survey(place, held.cookie).freePreference > free
        else { throw failure("adding the filter", place, error) }
        taken = free
      }
    }
  }

  /// Writes down who made a qdisc, before or after it is made, as it is safe.
  private func note(_ index: Int, madeHooks: Bool, _ held: inout Held) throws(RateLimiterError) {
    held.placed[index].madeHooks = madeHooks
    held.record.change = .police(held.cookie, held.placed)
    let (text, record) = (held.text, held.record)
    held.text = try written { () throws(SystemError) in try folder.replace(text, with: record) }
  }

  private func written(_ body: () throws(SystemError) -> HeldText) throws(RateLimiterError) -> HeldText {
    do throws(SystemError) {
      return try body()
    } catch {
      throw RateLimiterError(device: device, kind: kind, error)
    }
  }

  private func survey(_ place: PolicePlace, _ cookie: Cookie) throws(RateLimiterError) -> HookSurvey {
    try asking("looking for filters", place) { () throws(NetlinkError) in
      try network.survey(place.hook, of: place.interface.index, for: cookie)
    }
  }

  private func hooksOf(_ place: PolicePlace) -> () throws(NetlinkError) -> HookHolder? {
    { () throws(NetlinkError) in try self.network.hooks(of: place.interface.index) }
  }

  private func asking<Answer>(
    _ operation: String, _ place: PolicePlace, _ body: () throws(NetlinkError) -> Answer
  ) throws(RateLimiterError) -> Answer {
    do throws(NetlinkError) {
      return try body()
    } catch {
      throw failure(operation, place, error)
    }
  }

  private func failure(_ operation: String, _ place: PolicePlace, _ error: NetlinkError) -> RateLimiterError {
    RateLimiterError(device: device, kind: kind, operation: operation, subject: "\(place)", error)
  }

  private func refusal(_ operation: String, _ place: PolicePlace, _ reason: String) -> RateLimiterError {
    RateLimiterError(device: device, kind: kind, operation: operation, subject: "\(place)", cause: .refused(reason))
  }
}
