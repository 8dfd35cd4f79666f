// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Migration

/// The kernel, over netlink. libnl is loaded with the first request; each request has a socket of its own, in the network
/// namespace of the calling thread.
struct KernelNetwork: NetworkControl {
  /// Answers in the kernel's place; nil for the kernel.
  var conversation: (any NetlinkConversation)?

  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder? {
    var found = vf_hooks()
    unsafe try ask(vf_netlink_route) { socket, words in unsafe vf_tc_hooks(socket, interface, &found, words) }
    guard found.present else { return nil }
    return HookHolder(kind: Self.text(&found.kind), isShared: found.shared)
  }

  func addClsact(to interface: Int32) throws(NetlinkError) {
    unsafe try ask(vf_netlink_route) { socket, words in unsafe vf_tc_add_clsact(socket, interface, words) }
  }

  func removeClsact(from interface: Int32) throws(NetlinkError) {
    unsafe try ask(vf_netlink_route) { socket, words in unsafe vf_tc_delete_clsact(socket, interface, words) }
  }

  func survey(
    _ hook: TrafficHook, of interface: Int32, for cookie: Cookie
  ) throws(NetlinkError) -> HookSurvey {
    var found = vf_survey()
    var wanted = Self.cookie(cookie)
    unsafe try ask(vf_netlink_route) { socket, words in
      unsafe vf_tc_survey(socket, interface, Self.hook(hook), &wanted, &found, words)
    }
    var survey = HookSurvey(
      own: nil, others: Int(found.others), kin: Int(found.kin), freePreference: found.free_preference,
      firstOther: found.first_other == 0 ? nil : found.first_other)
    if found.found {
      survey.own = HookSurvey.Own(
        kind: Self.text(&found.kind), preference: found.preference, info: found.info, handle: found.handle,
        inHardware: found.in_hardware, police: found.police, rate: found.rate, bytes: found.bytes, drops: found.drops)
    }
    return survey
  }

  func add(
    _ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16
  ) throws(NetlinkError) {
    var filter = vf_filter()
    filter.interface = interface
    filter.hook = Self.hook(hook)
    filter.preference = preference
    filter.police = Self.police(rule.rate)
    filter.hardware_only = rule.hardwareOnly
    if case .destination(let address, let redirect) = rule.match {
      precondition(address.count == 6)
      filter.has_mac = true
      unsafe withUnsafeMutableBytes(of: &filter.mac) { unsafe $0.copyBytes(from: address) }
      filter.redirect = redirect
      filter.police.pipe = true
    }
    unsafe try ask(vf_netlink_route) { socket, words in unsafe vf_tc_add_filter(socket, &filter, words) }
  }

  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError) {
    var found = vf_survey()
    found.info = filter.info
    found.handle = filter.handle
    unsafe withUnsafeMutableBytes(of: &found.kind) { kind in
      unsafe kind.copyBytes(from: filter.kind.utf8.prefix(kind.count - 1))
    }
    unsafe try ask(vf_netlink_route) { socket, words in
      unsafe vf_tc_delete_filter(socket, interface, Self.hook(hook), &found, words)
    }
  }

  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError) {
    var police = Self.police(rate)
    police.pipe = redirects
    unsafe try ask(vf_netlink_route) { socket, words in unsafe vf_tc_replace_police(socket, number, &police, words) }
  }

  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
    var port: UInt32 = 0
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe vf_devlink_find_port(socket, bus, device, number, &port, words)
    }
    return port
  }

  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64 {
    var rate: UInt64 = 0
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe port.bus.withCString { bus in
        unsafe port.device.withCString { device in
          var named = unsafe vf_devlink_port(bus: bus, device: device, number: port.number)
          return unsafe vf_devlink_get_rate(socket, &named, &rate, words)
        }
      }
    }
    return rate
  }

  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError) {
    unsafe try ask(vf_netlink_devlink) { socket, words in
      unsafe port.bus.withCString { bus in
        unsafe port.device.withCString { device in
          var named = unsafe vf_devlink_port(bus: bus, device: device, number: port.number)
          return unsafe vf_devlink_set_rate(socket, &named, bytesPerSecond, words)
        }
      }
    }
  }

  /// Opens a socket, asks, and closes it.
  func ask(
    _ family: vf_netlink_family, _ request: (OpaquePointer, UnsafeMutablePointer<vf_netlink_words>) -> Int32
  ) throws(NetlinkError) {
    if let conversation { return unsafe try NetlinkReplay(conversation).ask(request) }
    var opened: OpaquePointer?
    let refused = unsafe vf_netlink_open(family, &opened)
    guard refused == 0, let socket = unsafe opened else {
      throw NetlinkError(errno: ErrorNumber(rawValue: refused), words: "")
    }
    unsafe try Self.ask(socket, request)
  }

  /// Asks through a socket, and closes it.
  static func ask(
    _ socket: OpaquePointer, _ request: (OpaquePointer, UnsafeMutablePointer<vf_netlink_words>) -> Int32
  ) throws(NetlinkError) {
    defer { unsafe vf_netlink_close(socket) }
    var words = vf_netlink_words()
    let error = unsafe request(socket, &words)
    if error != 0 {
      throw NetlinkError(
        errno: ErrorNumber(rawValue: error), words: Attribute.harmless(text(&words.text)))
    }
  }

  /// The text in an array of characters, which has a zero at its end.
  private static func text<Characters>(_ characters: inout Characters) -> String {
    unsafe withUnsafeBytes(of: &characters) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  static func hook(_ hook: TrafficHook) -> vf_hook {
    hook == .ingress ? vf_hook_ingress : vf_hook_egress
  }

  static func cookie(_ cookie: Cookie) -> vf_cookie {
    var bytes = vf_cookie()
    unsafe withUnsafeMutableBytes(of: &bytes) { unsafe $0.copyBytes(from: cookie.bytes) }
    return bytes
  }

  private static func police(_ rate: PoliceRate) -> vf_police {
    var police = vf_police()
    police.rate = rate.bytesPerSecond
    police.burst = rate.burst
    police.cookie = cookie(rate.cookie)
    return police
  }
}
