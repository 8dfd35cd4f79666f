// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration
internal import Synchronization

/// Limits what a device sends, by the maximum that devlink has for the port that it is behind
/// (`DEVLINK_ATTR_RATE_TX_MAX`).
///
/// It is the fallback where nothing polices what comes in. It slows the writes of a device only as far as the peers wait
/// for what the device sends: a peer that reads from the device, or that answers it, is slowed; one that writes into its
/// memory is not.
public final class DevlinkRate: RateLimiter {
  /// Always ``RateLimiterKind/devlinkRate``.
  public var kind: RateLimiterKind { .devlinkRate }

  /// The device, as users call it.
  public let device: String
  /// The port that it is behind.
  public let port: DevlinkPort

  private let folder: ThrottleFolder
  private let network: any NetworkControl
  /// What is set, and written down; nil where nothing is.
  private let held = Mutex<Held?>(nil)

  private struct Held {
    /// What the port's rate was.
    let before: UInt64
    /// What it may be now, the one that was asked for first.
    var set: [UInt64]
    /// Where this is written down.
    var text: HeldText
  }

  /// Drivers (mlx5, netdevsim) take a rate only in whole Mbit/s.
  static let unit: UInt64 = 125_000

  /// A limiter that has set nothing yet.
  /// - Parameter folder: where the record of it is kept.
  public convenience init(device: String, port: DevlinkPort, folder: ThrottleFolder = ThrottleFolder()) {
    self.init(device: device, port: port, folder: folder, network: KernelNetwork())
  }

  init(device: String, port: DevlinkPort, folder: ThrottleFolder, network: any NetworkControl) {
    self.device = device
    self.port = port
    self.folder = folder
    self.network = network
  }

  /// Limits what the device sends.
  /// - Parameter bytesPerSecond: rounded down to whole Mbit/s, and never to none.
  public func limit(to bytesPerSecond: UInt64) throws(RateLimiterError) {
    guard bytesPerSecond > 0 else { throw refusal("0 is no rate") }
    let rate = max(Self.unit, bytesPerSecond / Self.unit * Self.unit)
    let result = held.withLock { held in
      Result { () throws(RateLimiterError) in
        if held == nil { try setUp(rate, &held) } else { try change(to: rate, &held!) }
      }
    }
    try result.get()
  }

  private func setUp(_ rate: UInt64, _ held: inout Held?) throws(RateLimiterError) {
    let set = try writeDown(rate)
    do throws(RateLimiterError) {
      try asking("setting the rate") { () throws(NetlinkError) in try network.setRate(of: port, rate) }
    } catch {
      // An error does not say that nothing was changed: the answer may be lost.
      var error = error
      do throws(NetlinkError) {
        _ = try Self.putBack(port, before: set.before, set: set.set, network)
        set.text.remove()
      } catch let failure {
        // What may be set stays on record, and restore() tries again.
        error.wayBack.append("putting the rate back: \(failure)")
        held = set
      }
      throw error
    }
    held = set
  }

  /// Writes a first limit down, and holds that.
  private func writeDown(_ rate: UInt64) throws(RateLimiterError) -> Held {
    while true {
      let before = try currentRate()
      let first = try record(before, [rate])
      let text = try written(first) { () throws(SystemError) in try folder.add(first) }
      do throws(RateLimiterError) {
        // Somebody may have put back what one had set that is gone. From now on nobody does.
        if try currentRate() == before { return Held(before: before, set: [rate], text: text) }
      } catch {
        text.remove()
        throw error
      }
      text.remove()
    }
  }

  private func currentRate() throws(RateLimiterError) -> UInt64 {
    try asking("reading the rate") { () throws(NetlinkError) in try network.rate(of: port) }
  }

  private func change(to rate: UInt64, _ held: inout Held) throws(RateLimiterError) {
    // After a change whose answer was lost, and could not be taken back, either may be what is set. What is not in the next
    // record would be somebody else's to whoever puts back.
    let now = try currentRate()
    let old = held.set.contains(now) ? now : held.set[0]
    // Until the kernel has taken it, either may be what is set.
    let next = try record(held.before, [old, rate])
    let text = held.text
    held.text = try written(next) { () throws(SystemError) in try folder.replace(text, with: next) }
    held.set = [old, rate]
    do throws(RateLimiterError) {
      try asking("setting the rate") { () throws(NetlinkError) in try network.setRate(of: port, rate) }
    } catch {
      var error = error
      do throws(NetlinkError) {
        if try network.rate(of: port) == rate { try network.setRate(of: port, old) }
      } catch let failure {
        error.wayBack.append("setting the old rate again: \(failure)")
      }
      throw error
    }
    held.set = [rate, old]
  }

  /// Puts the rate back that was there before the first limit. A rate that somebody else has set since is left alone.
  public func restore() throws(RateLimiterError) {
    let result = held.withLock { held in
      Result { () throws(RateLimiterError) in
        guard let set = held else { return }
        _ = try asking("putting the rate back") { () throws(NetlinkError) in
          try Self.putBack(port, before: set.before, set: set.set, network)
        }
        set.text.remove()
        held = nil
      }
    }
    try result.get()
  }

  private func record(_ before: UInt64, _ set: [UInt64]) throws(RateLimiterError) -> ThrottleRecord {
    try ThrottleRecord.new(.devlinkRate(port, before: before, set: set), of: device, folder)
  }

  /// How putting a rate back ended.
  enum PutBack {
    case done(UInt64)
    case nothingToDo
    case changedSince(UInt64)
    case portIsGone

    /// For a person.
    var words: String {
      switch self {
      case .done(let rate): "its rate is \(rate == 0 ? "unlimited" : "\(rate) bytes a second") again"
      case .nothingToDo: "its rate is what it was before"
      case .changedSince(let rate):
        "somebody has changed its rate since (\(rate) bytes a second), and that is left alone"
      case .portIsGone: "its devlink port is gone, and the limit with it"
      }
    }
  }

  static func putBack(
    _ port: DevlinkPort, before: UInt64, set: [UInt64], _ network: any NetworkControl
  ) throws(NetlinkError) -> PutBack {
    let now: UInt64
    do throws(NetlinkError) {
      now = try network.rate(of: port)
    } catch {
      if error.errno == .noDevice { return .portIsGone }
      throw error
    }
    if now == before { return .nothingToDo }
    guard set.contains(now) else { return .changedSince(now) }
    try network.setRate(of: port, before)
    return .done(before)
  }

  private func refusal(_ reason: String) -> RateLimiterError {
    RateLimiterError(
      device: device, kind: kind, operation: "limiting", subject: "\(port)", cause: .refused(reason))
  }

  private func asking<Answer>(
    _ operation: String, _ body: () throws(NetlinkError) -> Answer
  ) throws(RateLimiterError) -> Answer {
    do throws(NetlinkError) {
      return try body()
    } catch {
      throw RateLimiterError(device: device, kind: kind, operation: operation, subject: "\(port)", error)
    }
  }

  private func written(
    _ record: ThrottleRecord, _ body: () throws(SystemError) -> HeldText
  ) throws(RateLimiterError) -> HeldText {
    do throws(SystemError) {
      return try body()
    } catch {
      if error.errno == ErrorNumber.exists.rawValue {
        throw refusal("another process has set it: see \(folder.path)/\(record.name)")
      }
      throw RateLimiterError(device: device, kind: kind, error)
    }
  }
}
