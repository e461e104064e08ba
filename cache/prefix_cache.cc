#include "cache/prefix_cache.h"

#include <algorithm>
#include <array>
#include <random>

#include "kernels/check.h"

namespace sentencekv {
namespace {

uint64_t RandomSecret() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// The tokens of page number `index`.
std::span<const int32_t> TokensOfPage(std::span<const int32_t> tokens,
                                      int64_t index) {
  return tokens.subspan(static_cast<size_t>(index * kPageTokens), kPageTokens);
}

}  // namespace

// A root has no page and no parent.
struct PrefixCache::Node {
  Node* parent = nullptr;
  uint64_t hash = 0;
  int32_t page = -1;
  int64_t num_children = 0;
  std::array<int32_t, kPageTokens> tokens = {};
  std::string_view salt;  // of a root: its key among the roots
};

uint64_t HashPage(uint64_t parent, std::span<const int32_t> tokens) {
  uint64_t hash = parent;
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return hash;
}

void PrefixMatch::DropCopy() {
  num_tokens = num_shared() * kPageTokens;
  pages.resize(static_cast<size_t>(num_shared()));
}

PrefixCache::PrefixCache(PagePool& pool, PageHash hash)
    : pool_(pool),
      hash_(hash),
      secret_(RandomSecret()),
      node_of_page_(static_cast<size_t>(pool.layout().num_pages), nullptr) {
  pool_.SetKeeper([this](int32_t page) { OnDropped(page); });
}

PrefixCache::~PrefixCache() {
  pool_.DropIdle();
  SKV_CHECK(nodes_.empty());
  pool_.SetKeeper(nullptr);
}

PrefixMatch PrefixCache::Match(std::string_view salt,
                               std::span<const int32_t> tokens,
                               int64_t max_tokens) const {
  PrefixMatch match;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return match;
  const int64_t whole_pages = static_cast<int64_t>(tokens.size()) / kPageTokens;
  const int64_t max_pages = std::min(whole_pages, PagesFor(max_tokens));
  const Node* node = root->second.get();
  for (int64_t i = 0; i < max_pages; ++i) {
    const std::span<const int32_t> page_tokens = TokensOfPage(tokens, i);
    node = Find(node, hash_(node->hash, page_tokens), page_tokens);
    if (node == nullptr) break;
    match.pages.push_back(node->page);
  }
  const auto found = static_cast<int64_t>(match.pages.size());
  match.num_tokens = std::min(found * kPageTokens, max_tokens);
  return match;
}

PrefixCache::Cursor PrefixCache::CursorAfter(
    std::span<const int32_t> pages) const {
  Cursor cursor;
  if (pages.empty()) return cursor;
  cursor.node_ = node_of_page_[pages.back()];
  cursor.num_pages_ = static_cast<int64_t>(pages.size());
  SKV_CHECK(cursor.node_ != nullptr);
  return cursor;
}

void PrefixCache::Register(std::string_view salt,
                           std::span<const int32_t> tokens, int64_t num_tokens,
                           Cursor* cursor, std::vector<int32_t>* pages) {
  SKV_CHECK(num_tokens <= static_cast<int64_t>(tokens.size()));
  for (; (cursor->num_pages_ + 1) * kPageTokens <= num_tokens;
       ++cursor->num_pages_) {
    const std::span<const int32_t> page_tokens =
        TokensOfPage(tokens, cursor->num_pages_);
    int32_t& page = (*pages)[static_cast<size_t>(cursor->num_pages_)];
    Node* const parent =
        cursor->node_ == nullptr ? RootFor(salt) : cursor->node_;
    const uint64_t hash = hash_(parent->hash, page_tokens);
    Node* node = Find(parent, hash, page_tokens);
    if (node == nullptr) {
      node = Insert(parent, hash, page_tokens, page);
    } else {
      // Released first: the known page may be idle, and the pool all promised.
      pool_.Release({&page, 1});
      pool_.Share(node->page);
      page = node->page;
    }
    cursor->node_ = node;
  }
}

PrefixCache::Node* PrefixCache::Find(const Node* parent, uint64_t hash,
                                     std::span<const int32_t> tokens) const {
  const auto [begin, end] = nodes_.equal_range(hash);
  for (auto entry = begin; entry != end; ++entry) {
    Node* const node = entry->second.get();
    if (node->parent == parent &&
        std::equal(tokens.begin(), tokens.end(), node->tokens.begin())) {
      return node;
    }
  }
  return nullptr;
}

PrefixCache::Node* PrefixCache::Insert(Node* parent, uint64_t hash,
                                       std::span<const int32_t> tokens,
                                       int32_t page) {
  auto node = std::make_unique<Node>();
  node->parent = parent;
  node->hash = hash;
  node->page = page;
  std::copy(tokens.begin(), tokens.end(), node->tokens.begin());
  ++parent->num_children;
  pool_.Keep(page);
  SKV_CHECK(node_of_page_[page] == nullptr);
  node_of_page_[page] = node.get();
  return nodes_.emplace(hash, std::move(node))->second.get();
}

PrefixCache::Node* PrefixCache::RootFor(std::string_view salt) {
  const auto known = roots_.find(salt);
  if (known != roots_.end()) return known->second.get();
  const auto place = roots_.emplace(salt, std::make_unique<Node>()).first;
  Node* const root = place->second.get();
  root->salt = place->first;
  root->hash = secret_ ^ std::hash<std::string_view>()(salt);
  return root;
}

void PrefixCache::OnDropped(int32_t page) {
  Node* const node = node_of_page_[page];
  SKV_CHECK(node != nullptr && node->num_children == 0);
  node_of_page_[page] = nullptr;
  Node* const parent = node->parent;
  const auto [begin, end] = nodes_.equal_range(node->hash);
  nodes_.erase(std::find_if(begin, end, [node](const auto& entry) {
    return entry.second.get() == node;
  }));
  --parent->num_children;
  if (parent->parent == nullptr && parent->num_children == 0) {
    roots_.erase(roots_.find(parent->salt));
  }
}

void PrefixCache::CheckInvariantsForTest() const {
  std::unordered_map<const Node*, int64_t> num_children;
  int64_t num_kept = 0;
  for (const auto& [hash, node] : nodes_) {
    SKV_CHECK(node->hash == hash && node_of_page_[node->page] == node.get());
    SKV_CHECK(pool_.is_kept(node->page));
    const Node* const parent = node->parent;
    ++num_children[parent];
    if (parent->parent == nullptr) continue;
    // Who holds a page holds the one before it.
    SKV_CHECK(pool_.references(parent->page) >= pool_.references(node->page));
  }
  for (const auto& [hash, node] : nodes_) {
    SKV_CHECK(node->num_children == num_children[node.get()]);
  }
  for (const auto& [salt, root] : roots_) {
    SKV_CHECK(root->salt == salt && root->num_children > 0);
    SKV_CHECK(root->num_children == num_children[root.get()]);
  }
  for (int64_t page = 0; page < pool_.layout().num_pages; ++page) {
    num_kept += pool_.is_kept(static_cast<int32_t>(page)) ? 1 : 0;
  }
  SKV_CHECK(num_kept == num_pages());
}

}  // namespace sentencekv
