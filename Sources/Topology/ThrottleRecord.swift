// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// What was set on this host, by whom, and how it is put back: written before anything is set, so that it is there after
/// a crash. It is text, one fact in a line and the facts in this order:
///
///     vfio-ferry throttle 1
///     device 0000:3b:00.1
///     process 4711 1234567 4026531836 …     number, start in ticks, PID namespace, the machine's boot_id
///     network 4026531840                    the network namespace
///     police 00112233445566778899aabbccddeeff
///     place egress 12 enp59s0f0np0_0 made   hook, interface, and who made the qdisc
///     end
///
/// or, in place of police and place, `devlink-rate pci 0000:3b:00.0 3 0 12500000`: the port, what its rate was, and what
/// it was set to, of which there are two while it is changed.
struct ThrottleRecord: Hashable {
  /// What was set.
  enum Change: Hashable {
    /// Filters that carry the cookie.
    case police(Cookie, [PlacedFilter])
    /// A rate of devlink's.
    case devlinkRate(DevlinkPort, before: UInt64, set: [UInt64])
  }

  /// Where a filter was put.
  struct PlacedFilter: Hashable {
    var hook: TrafficHook
    var interface: NetworkInterface
    /// Whether the qdisc that holds the hook was made for it.
    var madeHooks: Bool
  }

  /// The device, as users call it.
  var device: String
  var process: ProcessIdentity
  var networkNamespace: UInt64
  var change: Change

  /// More than any record has.
  static let maximumSize = 4096
  static let maximumPlaces = 8

  var kind: RateLimiterKind {
    switch change {
    case .police: .police
    case .devlinkRate: .devlinkRate
    }
  }

  /// The record's name in its folder. For devlink it is the port's: one process at a time may change a rate, or none
  /// would know what to put back.
  var name: String {
    switch change {
    case .police(let cookie, _): "police-\(cookie.hex)"
    case .devlinkRate(let port, _, _): "devlink-\(port.bus)-\(port.device)-\(port.number)"
    }
  }

  /// The record as it is written.
  var text: String {
    var lines = [
      Self.heading, "device \(device)",
      "process \(process.pid) \(process.startTicks) \(process.pidNamespace) \(process.boot)",
      "network \(networkNamespace)",
    ]
    switch change {
    case .police(let cookie, let places):
      lines.append("police \(cookie.hex)")
      for place in places {
        lines.append(
          "place \(place.hook.rawValue) \(place.interface.index) \(place.interface.name) "
            + (place.madeHooks ? "made" : "found"))
      }
    case .devlinkRate(let port, let before, let set):
      let rates = ([before] + set).map { "\($0)" }.joined(separator: " ")
      lines.append("devlink-rate \(port.bus) \(port.device) \(port.number) \(rates)")
    }
    return (lines + ["end", ""]).joined(separator: "\n")
  }

  private static let heading = "vfio-ferry throttle 1"
}

extension ThrottleRecord {
  /// Reads a record; nil where it is not exactly what ``text`` writes.
  init?(_ bytes: [UInt8]) {
    guard bytes.count <= Self.maximumSize, bytes.allSatisfy({ (0x20...0x7e).contains($0) || $0 == 10 }) else {
      return nil
    }
    var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)[...]
      .map { $0.split(separator: " ", omittingEmptySubsequences: false) }[...]
    func fields(_ first: Substring, _ counts: ClosedRange<Int>) -> ArraySlice<Substring>? {
      guard let line = lines.first, line.first == first, counts.contains(line.count - 1) else { return nil }
      lines.removeFirst()
      return line.dropFirst()
    }
    guard fields("vfio-ferry", 2...2)?.joined(separator: " ") == "throttle 1",
      let device = fields("device", 1...1)?.first, Self.isName(device, most: 64),
      let process = fields("process", 4...4).map(Array.init), Self.isName(process[3], most: 64),
      let pid: Int32 = Self.number(process[0]), pid > 0, let start: UInt64 = Self.number(process[1]),
      let pidNamespace: UInt64 = Self.number(process[2]),
      let network = fields("network", 1...1)?.first, let networkNamespace: UInt64 = Self.number(network)
    else { return nil }
    let change: Change
    if let cookie = fields("police", 1...1)?.first {
      guard let cookie = Cookie(hex: cookie) else { return nil }
      var places: [PlacedFilter] = []
      while let place = fields("place", 4...4) {
        guard places.count < Self.maximumPlaces, let place = PlacedFilter(Array(place)) else { return nil }
        places.append(place)
      }
      guard !places.isEmpty else { return nil }
      change = .police(cookie, places)
    } else if let rate = fields("devlink-rate", 5...6).map(Array.init) {
      let rates = rate[3...].compactMap { Self.number($0) as UInt64? }
      guard Self.isName(rate[0], most: 32), Self.isName(rate[1], most: 64), let number: UInt32 = Self.number(rate[2]),
        rates.count == rate.count - 3
      else { return nil }
      change = .devlinkRate(
        DevlinkPort(bus: String(rate[0]), device: String(rate[1]), number: number), before: rates[0],
        set: Array(rates[1...]))
    } else {
      return nil
    }
    guard fields("end", 0...0) != nil, lines.count == 1, lines.first == [""] else { return nil }
    self.device = String(device)
    self.process = ProcessIdentity(pid: pid, startTicks: start, pidNamespace: pidNamespace, boot: String(process[3]))
    self.networkNamespace = networkNamespace
    self.change = change
  }

  /// A number as Swift writes it: no sign, no zeros before it.
  static func number<Number: FixedWidthInteger>(_ text: Substring) -> Number? {
    guard let value = Number(text), "\(value)" == text else { return nil }
    return value
  }

  /// What may stand in a record as a name, of an interface or a device: no space, and nothing that ends a path.
  static func isName(_ text: some StringProtocol, most: Int) -> Bool {
    !text.isEmpty && text.utf8.count <= most && text != "." && text != ".."
      && text.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "/") }
  }
}

extension ThrottleRecord.PlacedFilter {
  fileprivate init?(_ fields: [Substring]) {
    guard let hook = TrafficHook(rawValue: String(fields[0])),
      let index: Int32 = ThrottleRecord.number(fields[1]), index > 0,
      // IFNAMSIZ with its zero.
      ThrottleRecord.isName(fields[2], most: 15), fields[3] == "made" || fields[3] == "found"
    else { return nil }
    self.init(
      hook: hook, interface: NetworkInterface(name: String(fields[2]), index: index), madeHooks: fields[3] == "made")
  }
}

extension Cookie {
  /// 32 digits, as `tc` shows it.
  var hex: String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }

  init?(hex: Substring) {
    let digits = Array(hex.utf8)
    guard digits.count == 2 * Self.size else { return nil }
    var bytes: [UInt8] = []
    for place in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[place...(place + 1)], as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(byte)
    }
    self.init(bytes: bytes)
    guard self.hex == hex else { return nil }
  }
}
