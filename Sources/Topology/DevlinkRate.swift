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
  private let record = Mutex<ThrottleRecord?>(nil)

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
    let result = record.withLock { record in
      Result { () throws(RateLimiterError) in try limit(to: rate, &record) }
    }
    try result.get()
  }

  private func limit(to rate: UInt64, _ record: inout ThrottleRecord?) throws(RateLimiterError) {
    if let held = record, case .devlinkRate(_, let before, let set) = held.change {
      var next = held
      // Until the kernel has taken it, either may be what is set.
      next.change = .devlinkRate(port, before: before, set: [set.last ?? rate, rate])
      try written(next) { () throws(SystemError) in try folder.replace(next) }
      record = next
      do throws(RateLimiterError) {
        try asking("setting the rate") { () throws(NetlinkError) in try network.setRate(of: port, rate) }
      } catch {
        // As it was: the old rate is in force, and is the last one named.
        record?.change = .devlinkRate(port, before: before, set: [rate, set.last ?? rate])
        throw error
      }
      return
    }
    let before = try asking("reading the rate") { () throws(NetlinkError) in try network.rate(of: port) }
    let first = try ThrottleRecord.new(.devlinkRate(port, before: before, set: [rate]), of: device, folder)
    try written(first) { () throws(SystemError) in try folder.add(first) }
    do throws(RateLimiterError) {
      try asking("setting the rate") { () throws(NetlinkError) in try network.setRate(of: port, rate) }
    } catch {
      folder.remove(first)
      throw error
    }
    record = first
  }

  /// Puts the rate back that was there before the first limit. A rate that somebody else has set since is left alone.
  public func restore() throws(RateLimiterError) {
    let result = record.withLock { record in
      Result { () throws(RateLimiterError) in
        guard let held = record, case .devlinkRate(_, let before, let set) = held.change else { return }
        _ = try asking("putting the rate back") { () throws(NetlinkError) in
          try Self.putBack(port, before: before, set: set, network)
        }
        folder.remove(held)
        record = nil
      }
    }
    try result.get()
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
    _ record: ThrottleRecord, _ body: () throws(SystemError) -> Void
  ) throws(RateLimiterError) {
    do throws(SystemError) {
      try body()
    } catch {
      if error.errno == ErrorNumber.exists.rawValue {
        throw refusal("another process has set it: see \(folder.path)/\(record.name)")
      }
      throw RateLimiterError(device: device, kind: kind, error)
    }
  }
}
